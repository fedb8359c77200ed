# ocmt: run untrusted npm plugins in containers. `make help` lists the targets.

SHELL       := /bin/sh
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
ARCH        ?= $(shell $(GO) env GOARCH 2>/dev/null)
BIN         := bin
PKG         := github.com/ocmt/ocmt
GOFLAGS_REL := -trimpath -buildvcs=false
GO_SOURCES  := $(shell find cmd/ocmt orchestrator bus sandbox images -name '*.go' -not -name '*_test.go') $(shell find orchestrator sandbox -name '*.sql' -o -name '*.json' -path '*seccomp*') go.mod go.sum
INIT_SOURCES := $(shell find cmd/ocmt-init sandbox/egress/forward sandbox/egress/link -name '*.go' -not -name '*_test.go') go.mod
IMAGE_SOURCES := images/lock.json $(shell find images/build images/cmd -name '*.go' -not -name '*_test.go')
JS_SOURCES  := $(shell find images/runner-node/src -type f 2>/dev/null)

# What `make demo` runs on, what `make test` must find, what the end-to-end
# tests run on, and what the hostile attacks run on besides: engines, with
# +RUNTIME for another than the engine's default.
ENGINE  ?= docker
ENGINES ?= docker containerd runsc
E2E     ?= $(filter docker containerd,$(ENGINES))
HOSTILE ?= $(if $(filter runsc,$(ENGINES)),$(firstword $(E2E))+runsc)
comma   := ,
SUMMARY := $(CURDIR)/$(BIN)/hostile.txt
REQUIRE  = $(subst $(eval) ,$(comma),$(strip $(ENGINES)))

export PATH := $(CURDIR)/$(BIN)/tools:$(PATH)

IMAGEBUILD = $(GO) run ./images/cmd/imagebuild --arch $(ARCH) --init $(BIN)/ocmt-init --runner $(BIN)/runner.js --out $(BIN)

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

go: # say what to do when Go is missing or too old to fetch the toolchain it needs
	@sh e2e/check-go.sh

build: $(BIN)/ocmt ## build bin/ocmt, bin/ocmt-init and the images

$(BIN)/ocmt-init: $(INIT_SOURCES) | go
	CGO_ENABLED=0 GOARCH=$(ARCH) $(GO) build $(GOFLAGS_REL) -ldflags '-s -w -buildid=' -o $@ ./cmd/ocmt-init

$(BIN)/runner.js: $(JS_SOURCES) | go
	$(GO) run ./images/runner-node/cmd/bundle -o $@

$(BIN)/images.json: $(BIN)/ocmt-init $(BIN)/runner.js $(IMAGE_SOURCES)
	$(IMAGEBUILD)

$(BIN)/ocmt: $(BIN)/images.json $(GO_SOURCES)
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_REL) -ldflags "-s -w -X $(PKG)/orchestrator/daemon.Version=$(VERSION) $$($(IMAGEBUILD) --print-ldflags)" -o $@ ./cmd/ocmt

engine: # the engine of the demo, installed if need be
	@sh e2e/engine.sh $(ENGINE)

engines: # those of the tests
	@sh e2e/engine.sh $(ENGINES)

tools: $(BIN)/images.json # node and npm of the images, for tests on a host without them
	@sh e2e/tools.sh $(BIN)/ocmt-install-$(ARCH).tar $(CURDIR)/$(BIN)/tools

demo: go engine build ## install what is missing, build, and run a real npm plugin end to end
	@E2E_ENGINE=$(ENGINE) $(GO) run ./e2e/demo

test: go engines build tools ## all tests, end to end on docker and on containerd
	@rm -f $(SUMMARY)
	E2E_REQUIRE=$(REQUIRE) E2E_SUMMARY=$(SUMMARY) $(GO) tool gotestsum --format pkgname --raw-command -- sh e2e/test.sh $(E2E) -- $(HOSTILE)

chaos: go engines build ## break things on purpose and check what must hold, 12 minutes; report in bin/chaos.json
	E2E_REQUIRE=$(REQUIRE) $(GO) test ./e2e/chaos -run TestChaos -chaos.full -timeout 15m -v -chaos.report $(CURDIR)/$(BIN)/chaos.json

bench: go engines build ## benchmarks, as ratios in one run
	$(GO) test -run '^$$' -bench . -p 1 -benchtime $(or $(BENCHTIME),1s) -count $(or $(COUNT),3) -timeout 40m ./bus ./sandbox/egress/... ./sandbox/containerd ./sandbox/logfile ./images/runner-node ./orchestrator/gateway ./orchestrator/hooks ./orchestrator/audit ./orchestrator/install/seal ./orchestrator/instance/... ./orchestrator/daemon ./e2e | tee bench.txt
	$(GO) tool benchstat bench.txt

fuzz: go ## run every fuzz test for a while
	sh e2e/fuzz.sh $(or $(FUZZTIME),20s)

lint: go ## golangci-lint, pinned
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

ci-full: ## what takes longer than .ci/run may: the tests and all attacks on gVisor too, benchmarks, fuzz tests, chaos
	E2E_HOSTILE=full $(MAKE) test E2E="docker containerd docker+runsc containerd+runsc" HOSTILE=
	$(MAKE) bench fuzz chaos

generate: go ## the clients, from the OpenAPI document; needs npm
	$(GO) run ./orchestrator/client/gen/cmd orchestrator/api/http/testdata/openapi.json orchestrator/client/gen/gen.go
	cd orchestrator/client/typescript && npm ci --ignore-scripts --no-audit --no-fund && npm run generate

clean: ## remove what was built
	rm -rf $(BIN) bench.txt images/runner-node/dist

.PHONY: help go build engine engines tools demo test chaos bench fuzz lint ci-full generate clean
