# ws-stream-server in an image that has nothing but the binary. OPERATING.md says how to
# run it. The build commands are run by a test, which has no container engine.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /ws-stream-server .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /ws-stream-server /ws-stream-server
# Not root: so the port is above 1024.
USER 65532:65532
ENV HTTP_PORT=8080 SSL_PORT=8443
EXPOSE 8080 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s --retries=3 CMD ["/ws-stream-server", "-health"]
ENTRYPOINT ["/ws-stream-server"]
