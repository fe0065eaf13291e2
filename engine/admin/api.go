package admin

import (
	"bufio"
	"cmp"
	_ "embed" // openapi.json
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ws-stream-server/engine"
)

//go:embed openapi.json
var openAPI []byte

// The answers of the API. openapi.json says what each field means; a test compares.
type (
	serverAnswer struct {
		Version       string               `json:"version"`
		UptimeSeconds float64              `json:"uptime_seconds"`
		Ready         bool                 `json:"ready"`
		NotReady      string               `json:"not_ready"`
		Connections   connections          `json:"connections"`
		Memory        memory               `json:"memory"`
		Totals        totals               `json:"totals"`
		Ends          map[string]int64     `json:"ends"`
		LagSeconds    lagAnswer            `json:"lag_seconds"`
		Slowest       []engine.SessionInfo `json:"slowest"`
	}
	connections struct {
		Sessions   int `json:"sessions"`
		Publishers int `json:"publishers"`
		Receivers  int `json:"receivers"`
		Waiting    int `json:"waiting"`
		Handshakes int `json:"handshakes"`
		Closing    int `json:"closing"`
	}
	memory struct {
		UsedBytes  int64  `json:"used_bytes"`
		LimitBytes *int64 `json:"limit_bytes"`
	}
	totals struct {
		ReceivedBytes int64 `json:"received_bytes"`
		SentBytes     int64 `json:"sent_bytes"`
		Packets       int64 `json:"packets"`
	}
	lagAnswer struct {
		Count   int64       `json:"count"`
		Buckets []lagBucket `json:"buckets"`
	}
	lagBucket struct {
		LE    float64 `json:"le"`
		Count int64   `json:"count"`
	}
)

func (a *Listener) getServer(w http.ResponseWriter, _ *http.Request) {
	srv := a.options.Server
	census, o := srv.Census(), srv.Overview()
	s := serverAnswer{
		Version:       a.options.Version,
		UptimeSeconds: time.Since(a.start).Seconds(),
		Ready:         true,
		Connections: connections{
			Sessions: census.Sessions, Publishers: o.Publishers, Receivers: o.Receivers + o.Waiting, Waiting: o.Waiting,
			Handshakes: census.Handshakes, Closing: census.Closing,
		},
		Memory:  memory{UsedBytes: census.Memory},
		Totals:  totals{ReceivedBytes: o.Totals.ReceivedBytes, SentBytes: o.Totals.SentBytes, Packets: o.Totals.ReceivedPackets},
		Ends:    srv.Ends(),
		Slowest: append([]engine.SessionInfo{}, o.Slowest...), // never null
	}
	if err := srv.Ready(); err != nil {
		s.Ready, s.NotReady = false, err.Error()
	}
	if limit := srv.MemoryLimit(); limit != math.MaxInt64 {
		s.Memory.LimitBytes = &limit
	}
	for _, b := range o.Lag {
		s.LagSeconds.Count = b.Count // the last bucket has all
		if !math.IsInf(b.LE, 1) {
			s.LagSeconds.Buckets = append(s.LagSeconds.Buckets, lagBucket{b.LE, b.Count})
		}
	}
	answer(w, http.StatusOK, s)
}

func (a *Listener) getChannels(w http.ResponseWriter, _ *http.Request) {
	writeList(w, `{"channels":`, a.options.Server.Channels())
}

func (a *Listener) getChannel(w http.ResponseWriter, r *http.Request) {
	channels, name := a.options.Server.Channels(), r.PathValue("channel")
	i := slices.IndexFunc(channels, func(c engine.ChannelInfo) bool { return c.Name == name })
	if i < 0 {
		refuse(w, http.StatusNotFound, "there is no such channel")
		return
	}
	answer(w, http.StatusOK, channels[i])
}

func (a *Listener) getSessions(w http.ResponseWriter, r *http.Request) {
	sessions, query := a.options.Server.Sessions(), r.URL.Query()
	if query.Has("channel") {
		sessions = slices.DeleteFunc(sessions, func(s engine.SessionInfo) bool { return s.Channel != query.Get("channel") })
	}
	total := len(sessions)
	if query.Has("limit") {
		limit, err := strconv.Atoi(query.Get("limit"))
		if err != nil || limit < 0 {
			refuse(w, http.StatusBadRequest, "limit is a number, 0 or more")
			return
		}
		slices.SortFunc(sessions, worstFirst)
		sessions = sessions[:min(limit, total)]
	}
	writeList(w, fmt.Sprintf(`{"total":%d,"sessions":`, total), sessions)
}

// worstFirst has publishers before receivers, and of these the ones that are furthest
// behind first.
func worstFirst(a, b engine.SessionInfo) int {
	place := func(s engine.SessionInfo) int {
		if s.Kind == "publish" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(b.LagSeconds, a.LagSeconds), cmp.Compare(a.ID, b.ID))
}

func (a *Listener) endSession(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || !a.options.Server.EndSession(id) {
		refuse(w, http.StatusNotFound, "there is no such session")
		return
	}
	a.options.Log.Info("the operator ends a session", "id", id, "by", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}

func (a *Listener) endChannel(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("channel")
	if !a.options.Server.EndChannel(name) {
		refuse(w, http.StatusNotFound, "there is no such channel")
		return
	}
	a.options.Log.Info("the operator ends a channel", "channel", name, "by", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}

func (a *Listener) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}

// writeList writes head, the items as an array, and } item by item: of many thousands only one at a time is
// in memory as text.
func writeList[T any](w http.ResponseWriter, head string, items []T) {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriter(w)
	_, _ = b.WriteString(head + "[")
	for i, item := range items {
		if i > 0 {
			_ = b.WriteByte(',')
		}
		text, err := json.Marshal(item)
		if err != nil { // a number that JSON does not have: the answer breaks off
			panic(http.ErrAbortHandler)
		}
		_, _ = b.Write(text)
	}
	_, _ = b.WriteString("]}\n")
	_ = b.Flush() // the client may have left
}
