package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// document is openapi.json, as far as the tests read it.
type document struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"` // by path, then method
	Components struct {
		Schemas   map[string]*schema `json:"schemas"`
		Responses map[string]struct {
			Content map[string]struct{ Schema *schema } `json:"content"`
		} `json:"responses"`
	} `json:"components"`
}

type operation struct {
	OperationID string                  `json:"operationId"`
	Summary     string                  `json:"summary"`
	Security    []map[string][]string   `json:"security"`
	Responses   map[string]*apiResponse `json:"responses"`
}

type apiResponse struct {
	Ref     string                              `json:"$ref"`
	Content map[string]struct{ Schema *schema } `json:"content"`
}

type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"` // a name, or a list of names
	Format               string             `json:"format"`
	Enum                 []string           `json:"enum"`
	OneOf                []*schema          `json:"oneOf"`
	Required             []string           `json:"required"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	MaxItems             *int               `json:"maxItems"`
}

func readDocument(t *testing.T) *document {
	t.Helper()
	var d document
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("openapi.json says it is OpenAPI %q", d.OpenAPI)
	}
	return &d
}

// operations is every method of every path.
func (d *document) operations(t *testing.T) map[string]operation {
	t.Helper()
	all := map[string]operation{}
	for path, methods := range d.Paths {
		for method, text := range methods {
			if method == "parameters" {
				continue
			}
			var o operation
			if err := json.Unmarshal(text, &o); err != nil || o.OperationID == "" || o.Summary == "" {
				t.Errorf("openapi.json: %s %s has no name or summary, %v", method, path, err)
			}
			all[strings.ToUpper(method)+" "+path] = o
		}
	}
	return all
}

// check compares a value with its schema: an object has exactly the fields that it may
// have, and all of those are required. It returns what differs.
func (d *document) check(where string, s *schema, v any) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, where+": "+fmt.Sprintf(format, args...)) }
	switch {
	case s == nil:
		say("there is no schema")
		return
	case s.Ref != "":
		name, _ := strings.CutPrefix(s.Ref, "#/components/schemas/")
		return d.check(where, d.Components.Schemas[name], v)
	case s.OneOf != nil:
		for _, one := range s.OneOf {
			if wrong = d.check(where, one, v); wrong == nil {
				return nil
			}
		}
		return wrong
	}
	types, _ := s.Type.([]any)
	if types == nil {
		types = []any{s.Type}
	}
	is := kindOf(v, s.Format)
	if !slices.Contains(types, any(is)) && (is != "integer" || !slices.Contains(types, any("number"))) {
		say("it is %s (%v), the schema says %v", is, v, types)
		return
	}
	switch v := v.(type) {
	case string:
		if s.Enum != nil && !slices.Contains(s.Enum, v) {
			say("%q is not one of %q", v, s.Enum)
		}
	case []any:
		if s.MaxItems != nil && len(v) > *s.MaxItems {
			say("%d items", len(v))
		}
		for i, item := range v {
			wrong = append(wrong, d.check(fmt.Sprintf("%s[%d]", where, i), s.Items, item)...)
		}
	case map[string]any:
		if s.AdditionalProperties != nil {
			for name, field := range v {
				wrong = append(wrong, d.check(where+"."+name, s.AdditionalProperties, field)...)
			}
			return
		}
		fields, may, must := slices.Sorted(maps.Keys(v)), slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(slices.Values(s.Required))
		if !slices.Equal(fields, may) || !slices.Equal(may, must) {
			say("the answer has %q, the schema %q, of which %q are required", fields, may, must)
		}
		for name, field := range v {
			wrong = append(wrong, d.check(where+"."+name, s.Properties[name], field)...)
		}
	}
	return wrong
}

// kindOf is the type of a value in the words of JSON Schema.
func kindOf(v any, format string) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case string:
		if _, err := time.Parse(time.RFC3339, v); format == "date-time" && err != nil {
			return "a string that is no time"
		}
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// schemaOf is the schema of an answer in JSON, or nil when it has another form.
func (d *document) schemaOf(t *testing.T, what string, r *apiResponse) *schema {
	t.Helper()
	content := r.Content
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		shared, known := d.Components.Responses[name]
		if !known {
			t.Errorf("%s: openapi.json has no response %s", what, name)
		}
		content = shared.Content
	}
	if c, ok := content["application/json"]; ok {
		return c.Schema
	}
	return nil
}

// Everything that openapi.json describes is served, everything that is served under
// /api/ is described, and the answers of a server with sessions of every kind have
// exactly the fields of their schemas, with their types.
func TestAnswersAreAsTheOpenAPIDocumentSays(t *testing.T) {
	d := readDocument(t)
	srv, addr := startServer(t)
	l := listen(t, "127.0.0.1:0", aToken, srv)
	clients(t, addr)
	operations := d.operations(t)
	served := map[string]bool{}
	for _, r := range l.routes() {
		key := r.method + " " + r.pattern
		o, described := operations[key]
		if !described && !strings.HasPrefix(r.pattern, "/debug/pprof/") && r.pattern != "/" {
			t.Errorf("openapi.json does not have %s", key)
		}
		// The token is asked for where the document says so.
		needs := len(o.Security) == 1 && len(o.Security[0]) == 1
		if described && (needs != (r.access == change) || (o.Responses["401"] == nil) != (r.access == open)) {
			t.Errorf("%s: openapi.json says something else about the token", key)
		}
		served[key] = true
	}
	seen := map[string]any{}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(operations))) { // GET before DELETE
		if !served[key] {
			t.Errorf("%s is not served", key)
			continue
		}
		method, path, _ := strings.Cut(key, " ")
		for status, r := range operations[key].Responses {
			target, header := targetFor(t, srv, path, status)
			if target == "" {
				continue
			}
			resp, body := l.ask(method, target, header...)
			if got := fmt.Sprint(resp.StatusCode); got != status {
				t.Errorf("%s %s %v: wanted %s, got %s %s", method, target, header, status, got, body)
				continue
			}
			s := d.schemaOf(t, key, r)
			if s == nil {
				if isJSON := resp.Header.Get("Content-Type") == "application/json"; isJSON {
					t.Errorf("%s, %s: the document says nothing of JSON", key, status)
				}
				continue
			}
			var v any
			if err := json.Unmarshal([]byte(body), &v); err != nil || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s: %v in %.200s", key, status, err, body)
				continue
			}
			if path == "/api/v1/openapi.json" && status == "200" {
				if body != string(openAPI) {
					t.Errorf("%s serves another document", path)
				}
				continue
			}
			for _, wrong := range d.check(key, s, v) {
				t.Error(wrong)
			}
			if status == "200" {
				seen[key] = v
			}
		}
	}
	wantFull(t, seen)
}

// clients connects one of each kind, and receivers that wait; the publisher's packet has
// come, to be seen in the answers.
func clients(t *testing.T, addr string) {
	t.Helper()
	pub := wstest.Dial(t, addr, "/cam/key/publish")
	pub.Send(wstest.Binary, []byte("packet"))
	pub.Sync()
	wstest.Dial(t, addr, "/cam/key/receive").WantPacket([]byte("packet"))
	wstest.Dial(t, addr, "/encoded/key/publish").Sync()
	wstest.Dial(t, addr, "/encoded/key/receive-clear-cache").Sync()
	wstest.Dial(t, addr, "/nobody/key/receive").Sync()
	wstest.Dial(t, addr, "/nobody/key/probe").Sync()
	wstest.Dial(t, addr, "/ended/key/publish").Sync()
}

// targetFor returns a path and headers that are answered with a status; "" for one that
// a running server does not give.
func targetFor(t *testing.T, srv Server, path, status string) (target string, header []string) {
	t.Helper()
	token := []string{"Authorization", bearer}
	known, unknown := strings.NewReplacer("{channel}", "ended", "{id}", fmt.Sprint(srv.Sessions()[0].ID)), strings.NewReplacer("{channel}", "no-such", "{id}", "999999")
	switch status {
	case "200", "204":
		return known.Replace(path), token
	case "404":
		return unknown.Replace(path), token
	case "403":
		return known.Replace(path), append(token, "Host", "evil.example")
	}
	return "", nil // 401 and 503: TestEveryRouteAsksForWhatItMust, TestReadiness
}

// wantFull makes sure that the answers had something in them to compare.
func wantFull(t *testing.T, seen map[string]any) {
	t.Helper()
	text, _ := json.Marshal(seen)
	for _, part := range []string{
		`"kind":"publish"`, `"kind":"receive"`, `"kind":"receive-clear-cache"`, `"kind":"probe"`, `"waiting":true`, `"live":false`, `"publisher":null`,
		`"first_byte_seconds":null`, `"slow_receiver":0`, `"buckets":[{`, `"version":"1.2.3"`, `"ready":true`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no answer has %s:\n%s", part, text)
		}
	}
	if !regexp.MustCompile(`"first_byte_seconds":\d`).Match(text) {
		t.Errorf("no answer has a time to the first byte:\n%s", text)
	}
}

// The check itself sees what differs.
func TestTheCheckSeesWhatDiffers(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	for _, c := range []struct{ schema, value, wrong string }{
		{"Error", `{"error":"x"}`, ""},
		{"Error", `{"error":1}`, "it is integer"},
		{"Error", `{}`, "the answer has []"},
		{"Error", `{"error":"x","more":1}`, `["error" "more"]`},
		{"Memory", `{"used_bytes":1,"limit_bytes":null}`, ""},
		{"Memory", `{"used_bytes":1.5,"limit_bytes":2}`, "it is number"},
		{"Lag", `{"count":1,"buckets":[{"le":0.5,"count":1},{"le":1,"count":null}]}`, "Lag.buckets[1].count: it is null"},
	} {
		var v any
		if err := json.Unmarshal([]byte(c.value), &v); err != nil {
			t.Fatal(err)
		}
		wrong := strings.Join(d.check(c.schema, d.Components.Schemas[c.schema], v), "; ")
		if (c.wrong == "") != (wrong == "") || !strings.Contains(wrong, c.wrong) {
			t.Errorf("%s as %s: wanted %q, got %q", c.value, c.schema, c.wrong, wrong)
		}
	}
}

// One channel's sessions, of all, and an API that ends what it is told to.
func TestEndingSessionsAndChannels(t *testing.T) {
	srv, addr := startServer(t)
	l := listen(t, "127.0.0.1:0", aToken, srv)
	pub := wstest.Dial(t, addr, "/cam/key/publish")
	pub.Send(wstest.Binary, []byte("packet"))
	stays, goes := wstest.Dial(t, addr, "/cam/key/receive"), wstest.Dial(t, addr, "/cam/key/receive")
	stays.WantPacket([]byte("packet"))
	goes.WantPacket([]byte("packet"))
	other := wstest.Dial(t, addr, "/other/key/receive")
	var list struct {
		Sessions []struct {
			ID      uint64
			Address string
		}
	}
	_, body := l.wants(http.StatusOK, "GET", "/api/v1/sessions?channel=cam")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Sessions) != 3 {
		t.Fatalf("wanted the three sessions of the channel, got %s, %v", body, err)
	}
	if _, body := l.wants(http.StatusOK, "GET", "/api/v1/sessions?channel="); body != `{"total":0,"sessions":[]}`+"\n" {
		t.Errorf("wanted no session of a channel without a name, got %s", body)
	}
	ended := false
	for _, s := range list.Sessions {
		if s.Address == goes.LocalAddr().String() {
			l.wants(http.StatusNoContent, "DELETE", fmt.Sprint("/api/v1/sessions/", s.ID), "Authorization", bearer)
			ended = true
		}
	}
	if !ended {
		t.Fatalf("no session has the address %v: %s", goes.LocalAddr(), body)
	}
	goes.WantError("Ended by the operator", 4002)
	pub.Send(wstest.Binary, []byte("last"))
	pub.Sync()
	l.wants(http.StatusNoContent, "DELETE", "/api/v1/channels/cam", "Authorization", bearer)
	pub.WantError("Ended by the operator", 4002)
	stays.WantPacket([]byte("last"))
	stays.WantClose(1000)
	l.wants(http.StatusNoContent, "DELETE", "/api/v1/channels/other", "Authorization", bearer)
	other.WantError("Ended by the operator", 4002)
	l.wants(http.StatusNotFound, "GET", "/api/v1/channels/cam")
}
