// Command wscat carries a stream from standard input to a server, or from a server to
// standard output:
//
//	wscat ws://HOST:PORT/CHANNEL/KEY/KIND
//
// It does what PROTO.md, 1.8, asks of every client, and nothing more: it does not try
// again, and what it publishes is cut wherever a read ends. Errors go to standard
// error, and the exit code is 1 unless the stream ended in order.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// beat is the time between two heartbeats (PROTO.md, 1.4).
const beat = 20 * time.Second

func main() {
	log.SetFlags(0)
	log.SetPrefix("wscat: ")
	if len(os.Args) != 2 {
		log.Fatal("one argument is needed: ws://HOST:PORT/CHANNEL/KEY/KIND")
	}
	if err := run(context.Background(), os.Args[1], os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run publishes what in holds until it ends, or copies what it receives to out until
// the stream ends.
func run(ctx context.Context, url string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return fmt.Errorf("cannot connect: %w", err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1) // a packet may be as large as its publisher made it
	go heartbeats(ctx, c)
	if path, _, _ := strings.Cut(url, "?"); strings.HasSuffix(path, "/publish") {
		go publish(ctx, c, in)
	}
	err = receive(ctx, c, out)
	if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
		return nil
	}
	return err
}

// heartbeats says that the client lives. Whoever reads sees when it cannot.
func heartbeats(ctx context.Context, c *websocket.Conn) {
	for range time.Tick(beat) {
		if c.Write(ctx, websocket.MessageText, []byte("h")) != nil {
			return
		}
	}
}

// publish sends what in holds, one packet a read, and then the close frame.
func publish(ctx context.Context, c *websocket.Conn, in io.Reader) {
	b := make([]byte, 64<<10)
	for {
		n, err := in.Read(b)
		if n > 0 && c.Write(ctx, websocket.MessageBinary, b[:n]) != nil {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = c.Close(websocket.StatusNormalClosure, "")
			return
		case err != nil:
			log.Print("cannot read: ", err)
			_ = c.CloseNow()
			return
		}
	}
}

// receive copies packets to out and shows what the server says, until the connection
// ends. A publisher reads as well: the server's pings and errors come to it, too.
func receive(ctx context.Context, c *websocket.Conn, out io.Writer) error {
	for {
		kind, b, err := c.Read(ctx)
		switch {
		case err != nil:
			return err
		case kind == websocket.MessageBinary:
			if _, err := out.Write(b); err != nil {
				return fmt.Errorf("cannot write: %w", err)
			}
		case string(b) != "h":
			log.Print(string(b))
		}
	}
}
