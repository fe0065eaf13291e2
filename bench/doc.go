// Package bench measures the server as its users run it: over loopback TCP, from
// the publisher's socket to the last receiver's. It has no code of its own beside
// the benchmarks.
//
//	go test -run=NONE -bench=. ./bench
//
// The load runs in the same process as the server, so absolute numbers say as much
// about the machine as about the server: read a row against the rows of the same
// name and another server= in the same run.
package bench
