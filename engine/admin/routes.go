package admin

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"ws-stream-server/engine/page"
)

// route is one method of a path. GET stands for HEAD too.
type route struct {
	method  string
	pattern string // as http.ServeMux takes it, without a method
	access  access
	answer  http.HandlerFunc
}

// routes is everything that the listener serves.
func (a *Listener) routes() []route {
	const get = http.MethodGet
	return []route{
		{get, "/healthz", open, a.healthz},
		{get, "/readyz", open, a.readyz},
		{get, "/metrics", look, a.metricsHandler()},
		{get, "/api/v1/server", look, a.getServer},
		{get, "/api/v1/channels", look, a.getChannels},
		{get, "/api/v1/channels/{channel}", look, a.getChannel},
		{http.MethodDelete, "/api/v1/channels/{channel}", change, a.endChannel},
		{get, "/api/v1/sessions", look, a.getSessions},
		{http.MethodDelete, "/api/v1/sessions/{id}", change, a.endSession},
		{get, "/api/v1/openapi.json", look, a.getOpenAPI},
		{get, "/debug/pprof/", change, pprof.Index},
		{get, "/debug/pprof/cmdline", change, pprof.Cmdline},
		{get, "/debug/pprof/profile", change, pprof.Profile},
		{get, "/debug/pprof/symbol", change, pprof.Symbol},
		{http.MethodPost, "/debug/pprof/symbol", change, pprof.Symbol},
		{get, "/debug/pprof/trace", change, pprof.Trace},
		{get, "/", open, a.page},
	}
}

// handler answers every request.
func (a *Listener) handler(g guard) http.Handler {
	methods := map[string]map[string]route{} // by pattern, then method
	for _, r := range a.routes() {
		if methods[r.pattern] == nil {
			methods[r.pattern] = map[string]route{}
		}
		methods[r.pattern][r.method] = r
		if r.method == http.MethodGet {
			methods[r.pattern][http.MethodHead] = r
		}
	}
	mux := http.NewServeMux()
	for pattern, m := range methods {
		mux.Handle(pattern, one(g, m))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asking(r.Context(), true)
		defer asking(r.Context(), false)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !g.local && !g.knows(r) {
			h.Set("Connection", "close") // strangers keep no place
		}
		if g.guesses(r) {
			a.wrong.note(r, time.Now())
		}
		if why := g.foreign(r); why != "" {
			refuse(w, http.StatusForbidden, why)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// one answers the requests for one pattern.
func one(g guard, methods map[string]route) http.HandlerFunc {
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		m, ok := methods[r.Method]
		if !ok {
			w.Header().Set("Allow", allow)
			refuse(w, http.StatusMethodNotAllowed, "the methods here are "+allow)
			return
		}
		if status, why := g.admit(r, m.access); status != 0 {
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="ws-stream-server"`)
			}
			refuse(w, status, why)
			return
		}
		m.answer(w, r)
	}
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, status int, why string) {
	answer(w, status, struct {
		Error string `json:"error"`
	}{why})
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}

// say answers with a line of text.
func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// healthz says that the process serves.
func (a *Listener) healthz(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") }

// readyz says whether new clients should be sent here.
func (a *Listener) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := a.options.Server.Ready(); err != nil {
		say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	say(w, http.StatusOK, "ready")
}

// page serves the files of the page.
func (a *Listener) page(w http.ResponseWriter, r *http.Request) {
	body, contentType, ok := page.OperatorsFile(r.URL.EscapedPath())
	if !ok {
		refuse(w, http.StatusNotFound, "there is nothing here")
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", page.ContentSecurityPolicy())
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(body)
}
