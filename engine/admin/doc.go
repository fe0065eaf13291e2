// Package admin is the operator's listener: what the server does now, for people, for
// Prometheus and for the page's Status view, and the way to end a session or a channel.
//
// It is an HTTP server of its own, at ADMIN_ADDRESS, and serves:
//
//	/metrics                            for Prometheus, collected when it is asked for
//	/healthz, /readyz                   200 while the process serves; 503 while it should get no new clients
//	/api/v1/…                           JSON: openapi.json describes it, and is served as /api/v1/openapi.json
//	/debug/pprof/…                      Go's profiles
//	/, /client/…                        the page of the public listeners: here its Status view works
//
// # Who may ask
//
// On a loopback address everybody on the machine may look. ADMIN_TOKEN is needed for
// every change and for the profiles, whatever the address, and for everything but
// /healthz, /readyz and the page on an address that is not loopback: without it such an
// address stops the start. It comes as "Authorization: Bearer ADMIN_TOKEN".
//
// A web page somewhere else must not reach the listener through the browser of somebody
// who can: a request is refused with 403 if its Host is a name that is not ours (a name
// of the page's own may lead here: DNS rebinding), if it has an Origin that is not this
// listener, or if the browser says that another site caused it (Sec-Fetch-Site).
//
// # What it costs
//
// Nothing where packets flow: everything is read from counters and from the sessions
// when somebody asks. One answer takes a moment for each session.
package admin
