package admin

import (
	"encoding/json"
	"fmt"
	"testing"

	"ws-stream-server/engine"
)

// Of very many sessions one may ask for the worst only: all of these are 2.6 MB.
func TestTheWorstOfManySessions(t *testing.T) {
	t.Parallel()
	srv := slowServer()
	srv.sessions = nil
	for id := range uint64(10_000) {
		s := engine.SessionInfo{ID: id + 1, Channel: "cam", Kind: "receive", Address: "192.0.2.1:1234", LagSeconds: float64(id % 1000)}
		if id%2_000 == 5 {
			s.Kind = "publish"
		}
		srv.sessions = append(srv.sessions, s)
	}
	l := listen(t, "127.0.0.1:0", "", srv)
	for _, c := range []struct {
		query string
		want  string // the first ids
		count int
		total int
	}{
		{"?limit=7", "[6 2006 4006 6006 8006 1000 2000]", 7, 10_000},
		{"?limit=0", "[]", 0, 10_000},
		{"?limit=100000", "[6 2006 4006 6006 8006 1000 2000]", 10_000, 10_000},
		{"?channel=dam&limit=7", "[]", 0, 0},
		{"?channel=cam", "[1 2 3 4 5 6 7]", 10_000, 10_000},
	} {
		_, body := l.wants(200, "GET", "/api/v1/sessions"+c.query)
		var got struct {
			Total    int                  `json:"total"`
			Sessions []engine.SessionInfo `json:"sessions"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%s: %v", c.query, err)
		}
		ids := []uint64{}
		for _, s := range got.Sessions[:min(7, len(got.Sessions))] {
			ids = append(ids, s.ID)
		}
		if fmt.Sprint(ids) != c.want || len(got.Sessions) != c.count || got.Total != c.total {
			t.Errorf("%s: wanted %s, %d of %d, got %v, %d of %d", c.query, c.want, c.count, c.total, ids, len(got.Sessions), got.Total)
		}
	}
	for _, limit := range []string{"", "-1", "x", "1.5", "99999999999999999999"} {
		l.wantsError(400, "GET", "/api/v1/sessions?limit="+limit)
	}
}
