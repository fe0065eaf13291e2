// Package bench measures the server as its users run it, over loopback TCP from the
// publisher's socket to the last receiver's, and the parts that carry the load. It
// has no code of its own beside the benchmarks.
//
//	go test -run=NONE -bench=. ./bench
//
//	BenchmarkFanOut    one channel and 1 to 5000 receivers, as fast as they go
//	BenchmarkChannels  1000 channels of one publisher and one receiver
//	BenchmarkJoin      what it costs to join a full cache, and the live receivers
//	BenchmarkStalled   what receivers that never read cost the others, and the kernel
//	BenchmarkIdle      the memory of receivers that wait
//	BenchmarkDrain     one channel written to by 1 to 8 drainers, without the kernel
//	BenchmarkRing…     the ring beside a mutex and Go's chan
//	BenchmarkFrame…    the frame codec; BenchmarkUnmask beside a naive loop
//
// Each has its legend. The load runs in the same process as the server, so absolute
// numbers say as much about the machine as about the server: read a line against
// those of the same name and another server=, ring= or drainers= (or joiners=0,
// stalled=0) in the same run. Above 1000 receivers the process may have to be allowed more open files; what
// it may not have is skipped.
package bench
