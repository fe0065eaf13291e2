package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// usage writes the help: every variable with its default, bounds and meaning.
func usage(w io.Writer) {
	var b strings.Builder
	b.WriteString(`ws-stream-server relays live media over WebSocket.

Usage: ws-stream-server [-h | -version]

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

// answerArguments deals with the command line. done says that the program has
// nothing more to do: help or version was written to w. The error is one line,
// as loadSettings's is.
func answerArguments(args []string, version string, w io.Writer) (done bool, err error) {
	for _, arg := range args {
		switch arg {
		case "-h", "-help", "--help", "-version", "--version":
		default:
			return false, fmt.Errorf("the argument %s is not known: settings are environment variables, -h lists them", shown(arg))
		}
	}
	if len(args) == 0 {
		return false, nil
	}
	if strings.HasSuffix(args[0], "version") {
		_, _ = fmt.Fprintln(w, "ws-stream-server", version)
		return true, nil
	}
	usage(w)
	return true, nil
}
