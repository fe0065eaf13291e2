# What one does with the project; .ci/run uses the first four and more.
.PHONY: help fmt lint test bench build run check docker soak fuzz clean

FUZZTIME ?= 10s

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

fmt: ## gofmt
	gofmt -w .

lint: ## go vet and golangci-lint
	go vet ./...
	golangci-lint run ./...

test: ## all tests, under the race detector, in random order
	go test -race -shuffle=on ./...

bench: ## the benchmarks
	go test -run=NONE -bench=. ./bench

build: ## a static binary, ws-stream-server
	CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o ws-stream-server .

run: ## a server on port 8080, without a limit per address
	HTTP_PORT=$${HTTP_PORT:-8080} CONCURRENT_LIMIT_WHITELIST='*' go run .

check: build ## are the settings in the environment and .env valid?
	./ws-stream-server -check

docker: ## the container's image
	docker build -t ws-stream-server .

soak: ## a minute against a model of what each receiver must get
	go test -tags soak -v -count=1 -run TestSoak ./bench/soak

fuzz: ## each fuzz target for FUZZTIME
	@for package in $$(go list ./...); do \
		for target in $$(go test -run='^$$' -list='^Fuzz' $$package | grep '^Fuzz'); do \
			go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) $$package || exit 1; \
		done; \
	done

clean: ## what a build leaves
	rm -f ws-stream-server ws-stream-server.exe
