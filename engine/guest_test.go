//go:build !windows

package engine

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guestPair is a guest with a place, and its client.
func guestPair(t *testing.T) (*guest, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = ours.Close()
	})
	inline(ours)
	x := &guest{Conn: ours, from: &source{}}
	x.enter(&x.from.silent)
	return x, client
}

// A guest is late where the client is waited for, and nowhere else.
func TestWhichSideOfAGuestIsWaitedFor(t *testing.T) {
	x, client := guestPair(t)
	want := func(late bool, when string) {
		t.Helper()
		if got := x.late(); got != late {
			t.Errorf("%s: the server is late: %v, wanted %v", when, got, late)
		}
	}
	want(true, "nobody reads yet")

	// Read is under way, whatever the socket has: as on a machine that has no time for it.
	x.read.Add(1)
	want(false, "a request is awaited")
	if _, err := client.Write([]byte("G")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it came", func() bool { return brings(x.Conn, x.read.Load()/2) })
	want(true, "it came, and is not read")
	if n := readNow(x.Conn, make([]byte, 1)); n != 1 {
		t.Fatalf("%d bytes were read, wanted one", n)
	}
	want(runtime.GOOS == "linux", "it is read, and Read has not returned") // elsewhere that is not known
	x.read.Add(2 - 1)
	want(true, "Read has returned")
	x.read.Add(1)
	want(false, "the rest is awaited")
	withDescriptor(client, func(fd int) {
		err := unix.Send(fd, []byte("!"), unix.MSG_OOB)
		if err != nil {
			t.Error(err)
		}
	})
	eventually(t, "it came", func() bool { return brings(x.Conn, x.read.Load()/2) })
	if n := readNow(x.Conn, make([]byte, 1)); n != 1 {
		t.Fatalf("%d bytes were read, wanted the urgent one", n)
	}
	x.read.Add(2)
	want(false, "an urgent byte was read")
	x.read.Add(^uint64(0))

	x.enter(&x.from.asking)
	x.read.Add(1) // net/http does, for what comes after the answer
	want(true, "an answer is made")
	x.writing.Add(1)
	want(true, "it is about to be written")
	x.writing.Add(-1)
	wrote := make(chan error, 1)
	go func() {
		_, err := x.Write(make([]byte, 64<<20)) // more than two sockets hold
		wrote <- err
	}()
	eventually(t, "the client takes no more", func() bool { return x.writing.Load() == 1 && !takes(x.Conn) })
	want(false, "the client takes no more")
	go func() { _, _ = io.Copy(io.Discard, client) }()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	want(true, "the answer is written")
}

// What came in time is read, however late the server is.
func TestAGuestsBytesAreReadAfterTheDeadline(t *testing.T) {
	x, client := guestPair(t)
	if _, err := client.Write([]byte("GET / HTTP/1.1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it came", func() bool { return brings(x.Conn, x.read.Load()/2) })
	x.heard = true // no deadline is moved any more
	_ = x.SetReadDeadline(time.Now().Add(-time.Second))
	var got bytes.Buffer
	var b [5]byte
	for {
		n, err := x.Read(b[:])
		got.Write(b[:n])
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("wanted the deadline's error when all is read, got %v", err)
			}
			break
		}
	}
	if got.String() != "GET / HTTP/1.1" {
		t.Errorf("got %q", got.String())
	}

	// Not without end, though.
	go func() {
		for err := error(nil); err == nil; {
			_, err = client.Write(make([]byte, 4096))
		}
	}()
	for total := got.Len(); ; {
		eventually(t, "more came", func() bool { return brings(x.Conn, x.read.Load()/2) })
		n, err := x.Read(make([]byte, 512))
		if total += n; err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || total < mostSaved || total >= mostSaved+512 {
				t.Errorf("%v after %d bytes, wanted the deadline's error after %d", err, total, mostSaved)
			}
			break
		}
	}
}

// A handshake that was late for the server's sake has time to go on, a few times.
func TestAGuestsDeadlineIsMoved(t *testing.T) {
	x, client := guestPair(t)
	for i := range mostMoved + 1 {
		if _, err := client.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it came", func() bool { return brings(x.Conn, x.read.Load()/2) })
		_ = x.SetReadDeadline(time.Now().Add(-time.Second))
		_ = x.SetWriteDeadline(time.Now().Add(-time.Second))
		var b [5]byte
		if n, err := x.Read(b[:]); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		_, err := x.Conn.Write([]byte("H"))
		if moved := err == nil; moved != (i < mostMoved) {
			t.Errorf("late for the %d. time: the deadline was moved: %v", i+1, moved)
		}
	}
}

// So has one whose answer took the server long; what is left of a longer time stays.
func TestAGuestsDeadlineIsMovedForALateStep(t *testing.T) {
	for _, c := range []struct {
		took, left time.Duration
		moved      bool
	}{
		{0, -time.Second, false},
		{time.Minute, -time.Second, true},
		{time.Minute, time.Second, true},
		{time.Minute, time.Minute, false},
	} {
		x, _ := guestPair(t)
		x.came = time.Now().Add(-c.took)
		before := time.Now()
		until := before.Add(c.left)
		_ = x.SetReadDeadline(until)
		if _, err := x.Write([]byte("H")); err != nil {
			t.Fatal(err)
		}
		if moved := x.until != until; moved != c.moved || moved && x.until.Sub(before) < guestGrace {
			t.Errorf("%+v: the deadline was moved: %v, to %v", c, moved, x.until)
		}
	}
}

// A guest's time begins with the server's step, a few times: what it causes to be written
// itself must not hold its place.
func TestAGuestsTimeBeginsWithTheServersStep(t *testing.T) {
	x, _ := guestPair(t)
	x.by, x.placed = newEntrance(nil, newGate(1, slog.New(slog.DiscardHandler))), true
	for i := range mostSteps + 1 {
		long := time.Now().Add(-time.Hour)
		x.since = long
		if _, err := x.Write([]byte("H")); err != nil {
			t.Fatal(err)
		}
		if anew := x.since != long; anew != (i < mostSteps) {
			t.Errorf("write %d: its time began anew: %v", i+1, anew)
		}
	}
}

// What there is room for is written after the deadline as well, and no more.
func TestAGuestsAnswerIsWrittenAfterTheDeadline(t *testing.T) {
	x, client := guestPair(t)
	_ = x.SetWriteDeadline(time.Now().Add(-time.Second))
	if n, err := x.Write([]byte("HTTP/1.1 101 ")); n != 13 || err != nil {
		t.Errorf("wrote %d bytes of 13, %v", n, err)
	}
	n, err := x.Write(make([]byte, 64<<20)) // more than two sockets hold
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
		t.Errorf("wrote %d bytes, %v, wanted the deadline's error", n, err)
	}
	_ = x.Close()
	got, err := io.ReadAll(client)
	if err != nil || len(got) != 13+n || !bytes.HasPrefix(got, []byte("HTTP/1.1 101 \x00")) {
		t.Errorf("the client got %d bytes, %.20q, %v, wanted %d", len(got), got, err, 13+n)
	}
}

// A kept connection whose next request is there is hung up last.
func TestAKeptConnectionWithARequestGoesLast(t *testing.T) {
	g := newGate(1, slog.New(slog.DiscardHandler))
	quiet, _ := guestPair(t)
	asks, client := guestPair(t)
	for _, x := range []*guest{quiet, asks} {
		x.enter(nil)
		x.read.Add(1) // the next request is awaited
		g.kept[x] = struct{}{}
	}
	if _, err := client.Write([]byte("GET /")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it came", asks.late)
	for range 50 { // a map has no order
		if g.anyKept() != quiet {
			t.Fatal("one whose request is there was to go, and another one was not")
		}
	}
	delete(g.kept, quiet)
	if g.anyKept() != asks {
		t.Error("there is nobody else, and it keeps its place")
	}
}

// deadlines is a connection that knows what deadline it has for writing.
type deadlines struct {
	net.Conn
	write time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = t
	return nil
}

// A guest never writes without a deadline: TLS may have to while a request is awaited.
func TestAGuestAlwaysHasADeadlineForWriting(t *testing.T) {
	d := &deadlines{}
	x := &guest{Conn: d}
	now := time.Now()
	_ = x.SetWriteDeadline(time.Time{})
	if left := d.write.Sub(now); left < answerTimeout || left > 10*time.Minute {
		t.Errorf("without a deadline it has %v", left)
	}
	_ = x.SetWriteDeadline(now)
	if !d.write.Equal(now) {
		t.Error("it has another deadline than it was given")
	}
}

// The end of a connection is one, with a guest as well.
func TestAGuestsEnd(t *testing.T) {
	x, client := guestPair(t)
	_ = client.Close()
	var b [5]byte
	if n, err := x.Read(b[:]); n != 0 || err != io.EOF {
		t.Errorf("wanted the end, got %d bytes and %v", n, err)
	}
}
