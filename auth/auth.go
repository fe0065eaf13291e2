package auth

import (
	"context"
	"errors"
	"net/netip"
)

var (
	// ErrDenied says that this client may not publish with this key.
	ErrDenied = errors.New("the coordinator denies this publisher")
	// ErrUnavailable says that the coordinator could not be asked or did not answer.
	ErrUnavailable = errors.New("the coordinator is unavailable")
)

// Request is what a client that wants to publish says about itself.
type Request struct {
	Channel string
	Key     string // a secret: never logged, never part of an error
	Addr    netip.Addr
}

// Authorizer decides who may publish. Any goroutine may call its methods.
type Authorizer interface {
	// Authorize asks whether a client may publish. It blocks until there is an
	// answer, ctx is done, 20 s have passed, or the coordinator is out of reach.
	// The error wraps ErrDenied or ErrUnavailable. Whoever gets a Grant must call
	// its End. When ctx ends first there is no Grant to end: a yes that comes
	// later is given back to the coordinator at once.
	Authorize(ctx context.Context, r Request) (*Grant, error)

	// Connected reports whether Authorize can ask: without a coordinator always, with
	// one while there is a link to it.
	Connected() bool

	// Close refuses new requests, sends what is queued and closes the link. It
	// returns the error of ctx if that ends first. Grants should be ended before.
	Close(ctx context.Context) error
}

// AcceptAll returns the stand-alone Authorizer: every key is accepted, and its
// grants are never revoked.
func AcceptAll() Authorizer { return acceptAll{} }

type acceptAll struct{}

func (acceptAll) Authorize(context.Context, Request) (*Grant, error) { return &Grant{}, nil }

func (acceptAll) Connected() bool { return true }

func (acceptAll) Close(context.Context) error { return nil }
