package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"ws-stream-server/engine/wstest"
)

// httpChannel is a channel of ours whose receivers speak HTTP.
type httpChannel struct {
	oneChannel
	receivers int
}

// receive connects a receiver, and waits until it has joined the channel: the answer comes
// with the first packet, and cannot tell.
func (c *httpChannel) receive() (net.Conn, []byte, error) {
	h, err := wstest.AskE("GET", c.addr, "/bench/key/receive", wstest.Patience(patience))
	if err != nil {
		return nil, nil, err
	}
	conn, _ := h.Raw()
	_ = conn.SetDeadline(time.Time{})
	c.receivers++
	for deadline := time.Now().Add(patience); c.srv.Census().Sessions < 1+c.receivers; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			hangUp(conn)
			return nil, nil, fmt.Errorf("receiver %d has not joined after %v", c.receivers, patience)
		}
	}
	return &httpConn{Conn: conn, br: bufio.NewReaderSize(conn, 64<<10)}, nil, nil
}

// httpConn is a receiver's end over HTTP: what is read of it is the stream.
type httpConn struct {
	net.Conn
	br   *bufio.Reader
	body io.Reader // nil: the header was not read yet
}

func (c *httpConn) Read(b []byte) (int, error) {
	if c.body == nil {
		resp, err := http.ReadResponse(c.br, nil)
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("the answer is %s", resp.Status)
		}
		c.body = resp.Body
	}
	return c.body.Read(b)
}
