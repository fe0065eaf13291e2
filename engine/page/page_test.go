package page

import (
	"io/fs"
	"regexp"
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

// What the page refers to exists, and it asks nobody else for anything.
func TestReferencesStayInside(t *testing.T) {
	reference := regexp.MustCompile(`(?:src|href)="([^"]*)"|from "([^"]*)"|import\("([^"]*)"\)`)
	for path := range files {
		body, _, _ := File(path)
		for _, match := range reference.FindAllStringSubmatch(string(body), -1) {
			target := match[1] + match[2] + match[3]
			if strings.HasPrefix(target, "#") {
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
	if policy := ContentSecurityPolicy(); strings.Contains(policy, "unsafe") || strings.ContainsAny(policy, "\r\n") {
		t.Errorf("policy is lax or not one line: %s", policy)
	}
}
