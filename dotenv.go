package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/joho/godotenv"
)

// maxDotEnv bounds the .env file, in bytes: far above any real one.
const maxDotEnv = 64 << 10

// maxDotEnvValues bounds the values of the .env file, with $NAME replaced, in bytes: a
// file whose variables refer to each other could double them with each line.
const maxDotEnvValues = 1 << 20

// readDotEnv reads a .env file; one that is not there is an empty one. Its
// content, which may hold secrets, is in no error.
func readDotEnv(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the .env file: %w", cause(err))
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxDotEnv+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the .env file: %w", cause(err))
	}
	if len(text) > maxDotEnv {
		return nil, fmt.Errorf("cannot read the .env file: it is larger than %d bytes", maxDotEnv)
	}
	body := strings.TrimPrefix(string(text), "\ufeff") // some editors begin with a byte order mark
	if dotEnvSize(body, nil) > maxDotEnvValues {
		return nil, fmt.Errorf("cannot read the .env file: its values, with $NAME replaced, are larger than %d bytes", maxDotEnvValues)
	}
	vars, ok := parseDotEnv(body)
	if !ok {
		return nil, fmt.Errorf("cannot read the .env file: the entry that begins in line %d is not of the form NAME=value", badLine(body))
	}
	return vars, nil
}

// cause strips the path from an error of package os.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func parseDotEnv(text string) (vars map[string]string, ok bool) {
	vars, err := godotenv.Unmarshal(text)
	// godotenv takes a last line without "=" for a variable without a name.
	if _, nameless := vars[""]; err != nil || nameless {
		return nil, false
	}
	return vars, true
}

// badLine finds the line that follows the longest run of lines that parse.
// Lines are taken away from the end, because a quoted value may span several.
// It also steps over empty lines and comments, to name the entry itself.
func badLine(text string) int {
	lines := strings.Split(text, "\n")
	good := len(lines) - 1
	for good > 0 {
		if _, ok := parseDotEnv(strings.Join(lines[:good], "\n")); ok {
			break
		}
		good--
	}
	for good < len(lines)-1 {
		line := strings.TrimSpace(lines[good])
		if line != "" && !strings.HasPrefix(line, "#") {
			break
		}
		good++
	}
	return good + 1
}
