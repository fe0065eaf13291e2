//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// TOOLS.md's commands and snippets, taken from the page as it is and run: only the
// server's address and the names of channels and files are replaced.

// recipe is one block of code of TOOLS.md.
type recipe struct{ title, language, code string }

// tools is the recipes by their titles.
type tools map[string]recipe

// byHand is the section that no test runs.
const byHand = "## Tried by hand"

// readTools reads TOOLS.md up to what was tried by hand.
func readTools(t *testing.T) tools {
	t.Helper()
	text, err := os.ReadFile("TOOLS.md")
	if err != nil {
		t.Fatal(err)
	}
	tested, _, ok := strings.Cut(string(text), byHand)
	if !ok {
		t.Fatalf("TOOLS.md has no section %q", byHand)
	}
	all := tools{}
	for _, section := range strings.Split(tested, "\n### ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		blocks := codeBlock.FindAllStringSubmatch(body, -1)
		if len(blocks) != 1 || all[title].title != "" {
			t.Fatalf("TOOLS.md: wanted one section %q with one block of code, there are %d", title, len(blocks))
		}
		all[title] = recipe{title, blocks[0][1], blocks[0][2]}
	}
	return all
}

var codeBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func (all tools) get(t *testing.T, title string) recipe {
	t.Helper()
	r, ok := all[title]
	if !ok {
		t.Fatalf("TOOLS.md has no %q", title)
	}
	return r
}

// atServer is what is replaced in a recipe: the address, the channel.
func atServer(addr, channel string) []string {
	return []string{"localhost:8080", addr, "/test/secret/", "/" + channel + "/secret/"}
}

// Every recipe is run by a test, and README.md's commands are TOOLS.md's.
func TestToolsAreTested(t *testing.T) {
	t.Parallel()
	all := readTools(t)
	run := map[string]bool{}
	for _, test := range toolTests {
		for _, title := range test.titles {
			all.get(t, title)
			run[title] = true
		}
	}
	for _, title := range []string{"A video element", "JavaScript: publish", "JavaScript: receive", "mpegts.js: publish", "mpegts.js: play", "jsmpeg: publish", "jsmpeg: play"} {
		all.get(t, title) // TestToolsInABrowser
		run[title] = true
	}
	for title := range all {
		if !run[title] {
			t.Errorf("TOOLS.md's %q is run by no test", title)
		}
	}

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## With your tools\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !strings.Contains(section, "](TOOLS.md)") {
		t.Error("README.md does not lead to TOOLS.md")
	}
	commands := 0
	for _, block := range codeBlock.FindAllStringSubmatch(section, -1) {
		for command := range strings.SplitSeq(strings.ReplaceAll(block[2], "\\\n", ""), "\n") {
			if command = oneLine(command); command == "" || strings.HasPrefix(command, "#") {
				continue
			}
			commands++
			known := false
			for _, r := range all {
				known = known || oneLine(strings.ReplaceAll(r.code, "\\\n", "")) == command
			}
			if !known {
				t.Errorf("README.md has a command that is not in TOOLS.md, so no test runs it: %s", command)
			}
		}
	}
	if commands == 0 {
		t.Error("README.md has no commands")
	}
}

// oneLine has one blank between words.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// toolTests says how recipes are run.
var toolTests = []struct {
	name   string
	titles []string
	run    func(*testing.T, *kitchen, []recipe)
}{
	{"picture", []string{"ffmpeg: a test picture"}, endlessVP8},
	{"websocket", []string{"ffmpeg: over WebSocket"}, endlessVP8},
	{"file", []string{"ffmpeg: a file, as it is"}, publishesFile("h264", "aac")},
	{"curl", []string{"curl"}, publishesFile("vp8", "opus")},
	{"obs", []string{"OBS"}, obs},
	{"ffplay", []string{"ffplay"}, plays},
	{"ffplay-websocket", []string{"ffplay: over WebSocket"}, plays},
	{"record", []string{"ffmpeg: record"}, records("recording.mkv")},
	{"curl-record", []string{"curl: record"}, records("recording.webm")},
	{"go", []string{"Go: publish", "Go: receive"}, goClients},
}

// kitchen is where recipes are run: a server, a channel of its own for each, and files.
type kitchen struct {
	s       *server
	channel string
	dir     string
	webm    []byte // two seconds, VP8 and Opus
	mp4     []byte // two seconds, H.264 and AAC
}

func TestTools(t *testing.T) {
	t.Parallel()
	needTools(t, "ffmpeg", "ffplay", "ffprobe", "curl", "sh", "go")
	all := readTools(t)
	s := startServer(t)
	webm := encodeWhole(t, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm", "-live", "1")
	mp4 := encodeWhole(t, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof")
	for _, test := range toolTests {
		t.Run(test.name, func(t *testing.T) {
			var recipes []recipe
			for _, title := range test.titles {
				recipes = append(recipes, all.get(t, title))
			}
			test.run(t, &kitchen{s, test.name, t.TempDir(), webm, mp4}, recipes)
		})
	}
}

// How they are run.

func endlessVP8(t *testing.T, k *kitchen, r []recipe) {
	receiver := startReceiver(t, k.s.addr, "/"+k.channel+"/secret/receive", nil)
	c := k.start(t, r[0])
	eventually(t, "some of the stream", func() bool { return receiver.size() > 50_000 || c.over() })
	c.wantRunning()
	c.signal(syscall.SIGINT) // as somebody at the keyboard does
	info := mediaOf(t, bytes.Join(receiver.wantClose(t, websocket.StatusNormalClosure), nil))
	if info.codecs["vp8"] < 5 || info.codecs["opus"] < 5 || info.width != 640 {
		t.Errorf("wanted a picture in VP8 and a tone in Opus, ffprobe decodes %+v; the command says:\n%s", info, c.says())
	}
}

func publishesFile(video, audio string) func(*testing.T, *kitchen, []recipe) {
	return func(t *testing.T, k *kitchen, r []recipe) {
		writeFile(t, filepath.Join(k.dir, "video.mp4"), string(k.mp4))
		writeFile(t, filepath.Join(k.dir, "recording.webm"), string(k.webm))
		receiver := startReceiver(t, k.s.addr, "/"+k.channel+"/secret/receive", nil)
		c := k.start(t, r[0])
		c.wantEnd()
		k.wantWhole(t, bytes.Join(receiver.wantClose(t, websocket.StatusNormalClosure), nil), video, audio)
	}
}

// A second ffmpeg stands in for OBS: H.264 and AAC by RTMP.
func obs(t *testing.T, k *kitchen, r []recipe) {
	file := filepath.Join(k.dir, "video.mp4")
	writeFile(t, file, string(k.mp4))
	receiver := startReceiver(t, k.s.addr, "/"+k.channel+"/secret/receive", nil)
	port := freePort(t)
	c := k.start(t, r[0], "127.0.0.1:1935", "127.0.0.1:"+port)
	eventually(t, "somebody who takes RTMP", func() bool {
		sender := exec.CommandContext(within(t, mediaPatience), "ffmpeg", "-loglevel", "error", "-nostdin",
			"-i", file, "-c", "copy", "-f", "flv", "rtmp://127.0.0.1:"+port+"/live/obs")
		return sender.Run() == nil || c.over()
	})
	c.wantEnd()
	k.wantWhole(t, bytes.Join(receiver.wantClose(t, websocket.StatusNormalClosure), nil), "h264", "aac")
}

// plays is a player on a screen that is none.
func plays(t *testing.T, k *kitchen, r []recipe) {
	c := k.start(t, r[0])
	k.publishFor(t, c)
	// Each time the clock is shown it overwrites the last one.
	played := regexp.MustCompile(`(?s)Video: vp8.*\b1\.\d+ +[AM]-V:`) // its clock
	eventually(t, "a second of VP8 played", func() bool { return played.MatchString(c.says()) || c.over() })
	if !played.MatchString(c.says()) {
		t.Error("the player ended before it had played a second of VP8")
	}
}

func records(name string) func(*testing.T, *kitchen, []recipe) {
	return func(t *testing.T, k *kitchen, r []recipe) {
		c := k.start(t, r[0])
		k.publishFor(t, c)
		c.wantEnd()
		recording, err := os.ReadFile(filepath.Join(k.dir, name))
		if err != nil {
			t.Fatalf("the recording: %v; the command says:\n%s", err, c.says())
		}
		k.wantWhole(t, recording, "vp8", "opus")
	}
}

// goClients builds both snippets into one program, in the module, and has it publish and
// receive.
func goClients(t *testing.T, k *kitchen, r []recipe) {
	dir, err := os.MkdirTemp("testdata", "tools")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	writeFile(t, filepath.Join(dir, "main.go"), `package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/coder/websocket"
)

`+r[0].code+"\n"+r[1].code+`
func main() {
	var err error
	if os.Args[1] == "publish" {
		err = publish(context.Background(), os.Args[2]+"publish", os.Stdin)
	} else {
		err = receive(context.Background(), os.Args[2]+"receive", os.Stdout)
	}
	if err != nil {
		log.Fatal(err)
	}
}
`)
	client := filepath.Join(k.dir, "client")
	if out, err := exec.CommandContext(within(t, 3*mediaPatience), "go", "build", "-o", client, "./"+dir).CombinedOutput(); err != nil {
		t.Fatalf("the snippets do not build: %v\n%s", err, out)
	}
	url := "ws://" + k.s.addr + "/" + k.channel + "/secret/"
	recording := filepath.Join(k.dir, "recording.webm")
	receiver := k.start(t, recipe{title: "receive", code: client + " receive " + url + " > " + recording})
	k.wantReceiver(t, receiver)
	writeFile(t, filepath.Join(k.dir, "in.webm"), string(k.webm))
	k.start(t, recipe{title: "publish", code: client + " publish " + url + " < " + filepath.Join(k.dir, "in.webm")}).wantEnd()
	receiver.wantEnd()
	if got, err := os.ReadFile(recording); err != nil || !bytes.Equal(got, k.webm) {
		t.Errorf("wanted the %d bytes that were published, got %d, %v", len(k.webm), len(got), err)
	}
}

// What they share.

// publishFor publishes two seconds, as fast as they go, to a command that receives; the
// stream ends when it has come.
func (k *kitchen) publishFor(t *testing.T, c *command) {
	t.Helper()
	publisher := dialMedia(t, k.s.addr, "/"+k.channel+"/secret/publish", nil)
	for rest := k.webm; len(rest) > 0; {
		n := min(len(rest), 3000)
		sendPacket(t, publisher, rest[:n])
		rest = rest[n:]
	}
	k.wantReceiver(t, c)
	endPublisher(t, publisher)
}

// wantReceiver waits until the command receives.
func (k *kitchen) wantReceiver(t *testing.T, c *command) {
	t.Helper()
	here := regexp.MustCompile(`"session begins" .*channel=` + k.channel + ` kind=receive `)
	eventually(t, "a receiver", func() bool { return here.MatchString(k.s.logs()) || c.over() })
	c.wantRunning()
}

// wantWhole decodes two seconds.
func (k *kitchen) wantWhole(t *testing.T, stream []byte, video, audio string) {
	t.Helper()
	info := mediaOf(t, stream)
	if info.codecs[video] != 30 || info.codecs[audio] < 80 || info.width != 192 {
		t.Errorf("wanted 30 pictures in %s and sound in %s, ffprobe decodes %+v of %d bytes", video, audio, info, len(stream))
	}
}

// size is how many bytes of packets came so far.
func (r *recorder) size() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.packets {
		n += len(p)
	}
	return n
}

// mediaOf decodes a stream in whatever container, with an end or without.
func mediaOf(t *testing.T, stream []byte) mediaInfo {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(within(t, 2*mediaPatience), "ffprobe", "-v", "error", "-i", "-", "-count_frames", "-of", "json",
		"-show_entries", "stream=codec_name,width,nb_read_frames")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stream), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffprobe cannot read the stream of %d bytes: %v; it says: %s", len(stream), err, &errs)
	}
	return readProbe(t, out.Bytes())
}
