package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"ws-stream-server/engine"
	"ws-stream-server/netfilter"
)

// healthTimeout is how long -health waits for an answer.
const healthTimeout = 5 * time.Second

// task is what the command line asks for.
type task int

const (
	taskServe   task = iota
	taskHelp         // write the help
	taskVersion      // write the version
	taskCheck        // check the settings
	taskHealth       // ask the server that runs
)

// parseArguments reads the command line; the first argument decides. The error is one
// line, as loadSettings's is.
func parseArguments(args []string) (task, error) {
	tasks := map[string]task{"h": taskHelp, "help": taskHelp, "version": taskVersion, "check": taskCheck, "health": taskHealth}
	first := taskServe
	for i, arg := range args {
		name, ok := strings.CutPrefix(arg, "-")
		what, known := tasks[strings.TrimPrefix(name, "-")]
		if !ok || !known {
			return taskServe, fmt.Errorf("the argument %s is not known: settings are environment variables, -h lists them", shown(arg))
		}
		if i == 0 {
			first = what
		}
	}
	return first, nil
}

// answer does what the command line asks for, beside serving, and returns the exit code.
func answer(what task, out io.Writer) int {
	switch what {
	case taskVersion:
		_, _ = fmt.Fprintln(out, "ws-stream-server", version)
	case taskCheck:
		return check(out)
	case taskHealth:
		return health()
	default:
		usage(out)
	}
	return exitOK
}

// usage writes the help: every variable with its default, bounds and meaning.
func usage(w io.Writer) {
	var b strings.Builder
	b.WriteString(`ws-stream-server relays live media over WebSocket.

Usage: ws-stream-server [-h | -version | -check | -health]

  -h        prints this
  -version  prints the version
  -check    checks the settings and the files they name, prints what it would warn
            of, and exits: 0 if they are valid, 2 with one line if not
  -health   asks the server that runs here with these settings whether it is well:
            exits with 0 if it answers within 5 s, else with 1 and one line

Settings are environment variables. A file named .env in the working directory is
read first, and the environment wins. An empty value means the default. Booleans
are YES or NO; lists are separated by commas.

`)
	for _, v := range variablesOf(reflect.TypeFor[settings]()) {
		fmt.Fprintf(&b, "  %s (default: %s", v.name, v.shownDefault())
		switch {
		case v.kind == reflect.Int:
			fmt.Fprintf(&b, "; %d to %d", v.min, v.max)
		case v.oneOf != nil:
			fmt.Fprintf(&b, "; %s", v.choice())
		}
		fmt.Fprintf(&b, ")\n        %s\n", v.meaning)
	}
	_, _ = io.WriteString(w, b.String())
}

// check does all that a start does before it listens, and says what came of it.
func check(out io.Writer) int {
	cfg, err := loadSettings(".")
	if err != nil {
		return fail(exitSettings, err)
	}
	p, err := assemble(cfg, newLogger(out, cfg))
	if err != nil {
		return fail(exitSettings, err)
	}
	p.srv.Warn()
	p.srv.WarnOfBinding()
	_, _ = fmt.Fprintln(out, "settings are valid")
	return exitOK
}

// health asks the server that runs. The settings are not checked beyond their form: a
// server goes on while, say, a new certificate is being put in place.
func health() int {
	cfg, _, err := readSettings(".")
	if err != nil {
		return fail(exitFault, err)
	}
	filter, err := netfilter.New(cfg.Filter)
	if err != nil {
		return fail(exitFault, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	if err := engine.AskHealth(ctx, cfg.Engine, filter); err != nil {
		return fail(exitFault, errors.New(printable(err.Error(), maxLine))) // who answers may be anybody
	}
	return exitOK
}

// fail prints why the program ends.
func fail(code int, err error) int {
	fmt.Fprintln(os.Stderr, "ws-stream-server:", err)
	return code
}
