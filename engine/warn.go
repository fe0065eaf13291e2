package engine

import "net"

// Warn logs what of the settings this machine may not be able to keep, as Start does.
// Any goroutine, before Start.
func (srv *Server) Warn() {
	srv.checkDescriptors()
	srv.checkMemoryLimit()
}

// WarnOfBinding logs that this machine cannot listen at BIND_ADDRESS. It listens for a
// moment, at a port that the system chooses: the server that has HTTP_PORT may be
// running.
func (srv *Server) WarnOfBinding() {
	l, err := net.Listen("tcp", srv.cfg.listenAddress(0))
	if err != nil {
		srv.log.Warn("this machine cannot listen at BIND_ADDRESS now", "BIND_ADDRESS", srv.cfg.BindAddress, "error", err)
		return
	}
	_ = l.Close()
}
