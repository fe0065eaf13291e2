# The four commands of the project; .ci/run uses the same and more.
.PHONY: fmt lint test bench

fmt:
	gofmt -w .

lint:
	go vet ./...
	golangci-lint run ./...

test:
	go test -race -shuffle=on ./...

bench:
	go test -run=NONE -bench=. ./bench
