package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ilyakaznacheev/cleanenv"

	"ws-stream-server/auth"
	"ws-stream-server/engine"
	"ws-stream-server/engine/admin"
	"ws-stream-server/netfilter"
)

// settings is everything that can be set from outside, read once at start.
//
// Each package owns its part and describes it in struct tags; the loader, the
// help and the test of README.md's table all read the same tags:
//
//	env              the variable's name
//	env-default      its default; without this tag the zero value means "none"
//	env-description  its meaning, one line
//	min, max         bounds of an int, both inclusive; every int has both
//	oneof            what a string may be, in lower case, separated by commas; any
//	                 case is read, the field has lower case
//	secret           "true": the value is taken byte for byte and never shown
type settings struct {
	Engine engine.Config
	Filter netfilter.Config
	Auth   auth.Config
	Admin  admin.Config

	LogDebug      bool   `env:"LOG_DEBUG" env-default:"false" env-description:"debug lines in the log"`
	LogFormat     string `env:"LOG_FORMAT" env-default:"text" oneof:"text,json" env-description:"form of the log's lines: name=value pairs, or one JSON object each"`
	RTMPChunkSize int    `env:"RTMP_CHUNK_SIZE" env-default:"128" min:"1" max:"16777215" env-description:"checked for the sake of shared deployment files, without effect on WebSocket"`

	// rtmpChunkSizeSet: RTMP_CHUNK_SIZE was given, so the log owes a line that
	// it has no effect.
	rtmpChunkSizeSet bool
}

// loadSettings reads dir/.env and the process's environment, which wins, and
// checks everything. It writes the values it has read back to the environment
// in the form cleanenv understands, so it is called once, before anything runs.
//
// The error is one line without the program's name, fit to be shown to the user
// as it is: no secret and no control character is in it.
func loadSettings(dir string) (settings, error) {
	s, r, err := readSettings(dir)
	if err != nil {
		return settings{}, err
	}
	apart := func() error { return s.Admin.Apart(s.Engine) }
	for _, validate := range []func() error{s.Engine.Validate, s.Filter.Validate, s.Auth.Validate, s.Admin.Validate, apart} {
		if err := validate(); err != nil {
			return settings{}, r.hide(errors.New(printable(err.Error(), maxLine)))
		}
	}
	return s, nil
}

// readSettings is loadSettings without what the packages' Validate looks at: files, and
// what contradicts each other.
func readSettings(dir string) (settings, *reading, error) {
	var s settings
	r := reading{variables: variablesOf(reflect.TypeFor[settings]()), raw: make(map[string]string), fromFile: make(map[string]bool)}
	if err := r.fill(dir, &s); err != nil {
		return settings{}, nil, r.hide(err)
	}
	s.rtmpChunkSizeSet = strings.TrimSpace(r.raw["RTMP_CHUNK_SIZE"]) != ""
	return s, &r, nil
}

// A variable is one setting as its struct tags describe it.
type variable struct {
	name     string
	meaning  string
	def      string       // in cleanenv's form, empty for none
	kind     reflect.Kind // Bool, Int, String, or Slice for a list of strings
	min, max int          // of an Int
	oneOf    []string     // what a String may be; nil: anything
	secret   bool
}

// variablesOf lists the variables of a struct and of the structs in it, in the
// order of their fields: the order in which they are checked and shown. It
// panics on a field whose tags it cannot use, which a test would meet first.
func variablesOf(t reflect.Type) []variable {
	var list []variable
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("env")
		if !ok {
			if f.IsExported() && f.Type.Kind() == reflect.Struct {
				list = append(list, variablesOf(f.Type)...)
			}
			continue
		}
		v := variable{
			name:    name,
			meaning: f.Tag.Get("env-description"),
			def:     f.Tag.Get("env-default"),
			kind:    f.Type.Kind(),
			secret:  f.Tag.Get("secret") == "true",
		}
		switch {
		case v.kind == reflect.Int:
			v.min, v.max = bound(f, "min"), bound(f, "max")
		case v.kind == reflect.String:
			if list := f.Tag.Get("oneof"); list != "" {
				v.oneOf = strings.Split(list, ",")
			}
		case v.kind == reflect.Bool:
		case v.kind == reflect.Slice && f.Type.Elem().Kind() == reflect.String:
		default:
			panic("settings: " + name + " has a type without a reader")
		}
		list = append(list, v)
	}
	return list
}

func bound(f reflect.StructField, tag string) int {
	n, err := strconv.Atoi(f.Tag.Get(tag))
	if err != nil {
		panic("settings: " + f.Tag.Get("env") + " needs the tag " + tag)
	}
	return n
}

// shownDefault is the default as the user would write it.
func (v variable) shownDefault() string {
	switch {
	case v.def == "":
		return "none"
	case v.kind == reflect.Bool:
		if v.def == "true" {
			return "YES"
		}
		return "NO"
	}
	return v.def
}

// normalise turns what the user wrote into what cleanenv parses. cleanenv alone
// would take 010 for eight, 0x50 for eighty, and would not take YES, a space
// after a comma, or an empty value. An empty result means: not set.
func (v variable) normalise(raw string) (string, error) {
	value := strings.TrimSpace(raw)
	if value == "" {
		// Only nothing is "not set" for what may guard something.
		if raw != "" && v.kind != reflect.Int && v.kind != reflect.Bool {
			return "", v.refuse(raw, "something beside white space, or nothing at all")
		}
		return "", nil
	}
	if strings.ContainsRune(value, 0) {
		return "", v.refuse(value, "text without NUL bytes")
	}
	switch v.kind {
	case reflect.Bool:
		switch strings.ToLower(value) {
		case "yes", "true", "1":
			return "true", nil
		case "no", "false", "0":
			return "false", nil
		}
		return "", v.refuse(value, "YES or NO")
	case reflect.Int:
		n, ok := decimal(value)
		if !ok || n < v.min || n > v.max {
			return "", v.refuse(value, fmt.Sprintf("a whole number from %d to %d", v.min, v.max))
		}
		return strconv.Itoa(n), nil
	case reflect.Slice:
		var entries []string
		for entry := range strings.SplitSeq(value, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				entries = append(entries, entry)
			}
		}
		// Nothing but commas is not "unset": that would open a list that guards.
		if len(entries) == 0 {
			return "", v.refuse(value, "a list with at least one entry, separated by commas")
		}
		return strings.Join(entries, ","), nil
	}
	if v.oneOf != nil {
		if lower := strings.ToLower(value); slices.Contains(v.oneOf, lower) {
			return lower, nil
		}
		return "", v.refuse(value, v.choice())
	}
	if v.secret {
		return raw, nil
	}
	return value, nil
}

// choice is what a variable with the tag oneof may be, in words.
func (v variable) choice() string { return strings.Join(v.oneOf, " or ") }

func (v variable) refuse(value, allowed string) error {
	if v.secret {
		return fmt.Errorf("%s is not allowed: %s", v.name, allowed)
	}
	return fmt.Errorf("%s=%s is not allowed: %s", v.name, shown(value), allowed)
}

// decimal reads digits and nothing else: no sign, no prefix, no underscore.
// Leading zeros are allowed and do not mean octal.
func decimal(s string) (n int, ok bool) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// reading is the variables as the user wrote them.
type reading struct {
	variables []variable
	raw       map[string]string // by name
	fromFile  map[string]bool   // raw comes from the .env file
}

// fill reads dir/.env and the environment into the struct that target points to.
func (r *reading) fill(dir string, target any) error {
	file, err := readDotEnv(filepath.Join(dir, ".env"))
	if err != nil {
		return err
	}
	for _, v := range r.variables {
		// Also a variable that is set to nothing hides the file's.
		raw, ok := os.LookupEnv(v.name)
		if !ok {
			raw, r.fromFile[v.name] = file[v.name], true
		}
		r.raw[v.name] = raw
	}
	for _, v := range r.variables {
		value, err := v.normalise(r.raw[v.name])
		if err != nil {
			return err
		}
		if value == "" {
			err = os.Unsetenv(v.name)
		} else {
			err = os.Setenv(v.name, value)
		}
		if err != nil {
			return fmt.Errorf("cannot set %s: %w", v.name, err)
		}
	}
	if err := cleanenv.ReadEnv(target); err != nil {
		// Not reached with values that normalise has passed. cleanenv's text
		// quotes the value, which may be a secret.
		return errors.New("cannot read the settings from the environment")
	}
	return nil
}

// minSecret is the length in bytes from which a secret is looked for in other values:
// a shorter one stands in them by chance.
const minSecret = 4

// hide returns another error for one whose line would show a secret that came into
// the value of another variable: by its name ($CONTROL_SECRET, in the file), because
// the file has a quote that is not closed, and the value goes on with the lines after
// it, or because two settings stand on one line.
func (r *reading) hide(err error) error {
	for _, v := range r.variables {
		rest, ok := strings.CutPrefix(err.Error(), v.name)
		if !ok || v.secret || rest == "" || rest[0] == '_' || 'A' <= rest[0] && rest[0] <= 'Z' {
			continue
		}
		raw := r.raw[v.name]
		if r.fromFile[v.name] && strings.ContainsAny(raw, "\r\n") {
			return fmt.Errorf("%s is not allowed as it stands in the .env file: a value on one line (perhaps a quote is not closed)", v.name)
		}
		for _, s := range r.variables {
			if s.secret && strings.Contains(strings.ToUpper(raw), s.name) {
				return fmt.Errorf("%s is not allowed: it has %s in it (perhaps two settings stand on one line)", v.name, s.name)
			}
			if secret := r.raw[s.name]; s.secret && len(secret) >= minSecret && strings.Contains(raw, secret) {
				return fmt.Errorf("%s is not allowed: it has the value of %s in it", v.name, s.name)
			}
		}
	}
	return err
}

// Bounds of what an error shows, in characters.
const (
	maxValue = 100
	maxLine  = 500
)

// shown is a user's value for an error line: as it is when that is plain,
// quoted when it holds anything odd, cut when it is long.
func shown(value string) string {
	short, cut := value, ""
	if r := []rune(value); len(r) > maxValue {
		short, cut = string(r[:maxValue]), "…"
	}
	for _, c := range short {
		if c <= ' ' || c > '~' || c == '"' || c == '\'' || c == '`' || c == '\\' {
			return strconv.Quote(short) + cut
		}
	}
	if short == "" {
		return `""`
	}
	return short + cut
}

// printable makes one line of at most n characters of s.
func printable(s string, n int) string {
	r := []rune(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, s))
	if len(r) > n {
		return string(r[:n]) + "…"
	}
	return string(r)
}
