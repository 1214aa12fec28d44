# Everything needs Go and nothing else; tools are pinned here and run by the Go command.
STATICCHECK   = honnef.co/go/tools/cmd/staticcheck@v0.7.0
BUF           = github.com/bufbuild/buf/cmd/buf@v1.75.0
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME     ?= 20s
BENCHTIME    ?= 20s
ARGS         ?=
FAULTS_TABLE ?=
FAULTS_ONLY  ?=

.DEFAULT_GOAL := help
.PHONY: help build test race thorough e2e fuzz lint generate check bench cluster-faults demo run

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/lorikeet, with the version from git
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/lorikeet ./cmd/lorikeet

test: ## what must hold, in about 7 minutes on 2 cores once compiled: vet, formatting, the race detector on everything, the system as processes
	@test -z "$$(gofmt -l .)" || { echo "run gofmt -w on:"; gofmt -l .; exit 1; }
	LORIKEET_TEST_RACE=1 go test -race -vet=all ./...

thorough: ## test, with more damage to more files
	LORIKEET_TEST_RACE=1 LORIKEET_TEST_THOROUGH=1 go test -race -count=1 -timeout 30m ./...

race: test ## the same: test runs with the race detector

e2e: ## the system from outside: real processes on loopback
	go test -count=1 -v ./test/...

fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
	    echo "== $$pkg $$target"; out=$$(go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg 2>&1); \
	    case "$$out" in \
	      *"Failing input"*) echo "$$out"; exit 1;; \
	      *PASS*|*"context deadline exceeded"*) echo "$$out" | grep '^fuzz: elapsed' | tail -n 1;; # the Go tool may call the end of the time a failure \
	      *) echo "$$out"; exit 1;; \
	    esac; \
	  done; \
	done

lint: ## static analysis beyond vet
	go run $(STATICCHECK) ./...
	go run $(BUF) lint

generate: ## Go code from the .proto files
	go run $(BUF) generate

check: test generate lint ## all of it, and that nothing generated or listed is stale
	go mod tidy
	git diff --exit-code

bench: build ## uplinks a second through the whole server, and what each part costs
	go test -run '^$$' -bench . -benchmem -benchtime 2s ./messages/... ./actors/... ./formatters/... ./persistence/... ./gateways/...
	LORIKEET_BENCH_TIME=$(BENCHTIME) go test -count=1 -timeout 30m -v -run '^$$' -bench "BenchmarkServer|BenchmarkCluster" -benchtime 1x ./test/...

cluster-faults: ## kill, stop and cut off nodes and NATS servers of a cluster under load; needs Linux and root. FAULTS_TABLE=file keeps the table, FAULTS_ONLY=text picks scenarios
	go vet -tags faults ./test
	LORIKEET_FAULTS_TABLE="$(abspath $(FAULTS_TABLE))" LORIKEET_FAULTS_ONLY="$(FAULTS_ONLY)" go test -tags faults -count=1 -timeout 40m -v -run '^TestClusterFaults$$' ./test

demo: build ## a server with simulated devices; prints decoded events and the lines to try
	./bin/lorikeet demo $(ARGS)

cluster-demo: build ## three nodes on this machine; one is killed, and the events go on
	./bin/lorikeet cluster-demo $(ARGS)

run: build ## a server with a throw-away folder
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && ./bin/lorikeet serve --data "$$dir" $(ARGS)
