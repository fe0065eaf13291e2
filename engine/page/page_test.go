package page

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every embedded file is served, and every served path has its file.
func TestEveryFileIsServed(t *testing.T) {
	served := map[string]bool{}
	for path, file := range files {
		body, contentType, ok := File(path)
		if !ok || len(body) == 0 || contentType != file.contentType {
			t.Errorf("File(%q) = %d bytes, %q, %v", path, len(body), contentType, ok)
		}
		served[file.name] = true
	}
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !served[entry.Name()] {
			t.Errorf("static/%s is embedded but has no path", entry.Name())
		}
	}
}

func TestOnlyExactPathsMatch(t *testing.T) {
	for _, path := range []string{"", "//", "/index.html", "/client", "/client/", "/client/main.js/", "/client/../client/main.js", "/static/main.js", "/CLIENT/main.js"} {
		if _, _, ok := File(path); ok {
			t.Errorf("File(%q) answers", path)
		}
	}
}

func TestBodyIsACopy(t *testing.T) {
	first, _, _ := File("/")
	want := string(first)
	clear(first)
	if again, _, _ := File("/"); string(again) != want {
		t.Error("writing to a returned body changes the page")
	}
}

// On the operator's listener the page is the same, but for a mark.
func TestOperatorsPageIsMarked(t *testing.T) {
	for path := range files {
		want, wantType, _ := File(path)
		body, contentType, ok := OperatorsFile(path)
		if marked := strings.Replace(string(body), ` data-streams="elsewhere"`, "", 1); !ok || contentType != wantType || marked != string(want) || (string(body) != marked) != (path == "/") {
			t.Errorf("OperatorsFile(%q) differs otherwise than by the mark of /", path)
		}
	}
	if _, _, ok := OperatorsFile("/nothing"); ok {
		t.Error("OperatorsFile answers what File does not")
	}
}

// What the page refers to exists, and it asks nobody else for anything.
func TestReferencesStayInside(t *testing.T) {
	reference := regexp.MustCompile(`(?:src|href)="([^"]*)"|from "([^"]*)"|import\("([^"]*)"\)`)
	comment := regexp.MustCompile(`(?m)^// .*$`)
	for path := range files {
		body, _, _ := File(path)
		for _, match := range reference.FindAllStringSubmatch(comment.ReplaceAllString(string(body), ""), -1) {
			target := match[1] + match[2] + match[3]
			if strings.HasPrefix(target, "#") || target == "${link}" { // in the code for other pages to paste
				continue
			}
			target = "/client/" + strings.TrimPrefix(strings.TrimPrefix(target, "./"), "client/")
			if _, _, ok := File(target); !ok {
				t.Errorf("%s refers to %q, which is not served", path, match[0])
			}
		}
	}
}

// The policy forbids inline code and styles, so the page must not have any; and
// data from the network must never become markup.
func TestPageObeysItsPolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|<style|\sstyle="|\son[a-z]+="|<script>|javascript:`)
	for path := range files {
		body, _, _ := File(path)
		if found := forbidden.FindString(string(body)); found != "" {
			t.Errorf("%s contains %q", path, found)
		}
	}
	for path := range files {
		policy := ContentSecurityPolicyOf(path)
		if strings.Contains(policy, "unsafe") || strings.ContainsAny(policy, "\r\n") {
			t.Errorf("%s: policy is lax or not one line: %s", path, policy)
		}
		if framed := strings.Contains(policy, "frame-ancestors *"); framed != (path == "/embed") {
			t.Errorf("%s: may be framed: %v; policy: %s", path, framed, policy)
		}
	}
}

// Other sites may import the player, so all that it imports must be open to them, and
// it must not draw in what is the page's own.
func TestPlayerIsImportable(t *testing.T) {
	imports := regexp.MustCompile(`from "\./([a-z]+\.js)"`)
	needed := []string{"player.js"}
	for i := 0; i < len(needed); i++ {
		path := "/client/" + needed[i]
		if !Importable(path) {
			t.Errorf("%s is needed by the player, but other sites may not import it", path)
		}
		body, _, _ := File(path)
		for _, match := range imports.FindAllStringSubmatch(string(body), -1) {
			if !slices.Contains(needed, match[1]) {
				needed = append(needed, match[1])
			}
		}
	}
	slices.Sort(needed)
	if want := []string{"chase.js", "feed.js", "link.js", "media.js", "player.js", "splitter.js"}; !slices.Equal(needed, want) {
		t.Errorf("the player consists of %v, its comment says %v", needed, want)
	}
	for _, path := range []string{"/", "/embed", "/client/style.css", "/client/nothing.js"} {
		if Importable(path) {
			t.Errorf("%s may be imported", path)
		}
	}
}
