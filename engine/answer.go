package engine

import (
	"net/http"
	"strconv"
	"time"
)

// Answers that are written without net/http: the connection is ours by then, and ends
// with the answer.

// appendAnswer appends a whole answer: a line of text. more is header lines, each with
// its CR LF.
func appendAnswer(b []byte, status int, text, more string) []byte {
	b = appendHead(b, status, "text/plain; charset=utf-8", more)
	if status == http.StatusServiceUnavailable {
		b = append(b, "Retry-After: "+retryAfter+"\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(text)+1), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, text...)
	return append(b, '\n')
}

// appendHead appends the beginning of an answer: what is to come is the rest of its
// header, an empty line and the body, which ends with the connection if neither a length
// is given nor chunks are (RFC 9112, 6.3).
func appendHead(b []byte, status int, contentType, more string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, "\r\nDate: "...)
	b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\nContent-Type: "...)
	b = append(b, contentType...)
	b = append(b, "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n"...)
	return append(b, more...)
}
