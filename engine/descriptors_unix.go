//go:build !windows

package engine

import (
	"fmt"
	"syscall"
)

// spare is a descriptor that somebody holds in order to have one later. nil is none.
// It has one owner.
type spare struct{ fd int }

// spare takes a descriptor. Any goroutine.
func (h *handover) spare() (*spare, error) {
	w := h.wakers[0]
	w.mu.Lock() // a number that close has given back is not duplicated
	defer w.mu.Unlock()
	if w.tx < 0 {
		return nil, nil // the server is gone
	}
	fd, err := syscall.Dup(w.tx)
	if err != nil {
		return nil, fmt.Errorf("cannot take a descriptor: %w", err)
	}
	syscall.CloseOnExec(fd)
	return &spare{fd: fd}, nil
}

// release gives the descriptor back, once.
func (sp *spare) release() {
	if sp != nil && sp.fd >= 0 {
		_ = syscall.Close(sp.fd)
		sp.fd = -1
	}
}

// descriptorLimit returns how many files the process may have open; 0: not known.
func descriptorLimit() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return uint64(r.Cur) //nolint:unconvert // an int64 on FreeBSD
}
