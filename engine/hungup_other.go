//go:build !linux && !windows

package engine

import "github.com/lesismal/nbio"

// hungUp is not needed: with kqueue nbio closes nothing that is unread.
func hungUp(*nbio.Conn) bool { return false }
