# The two commands of the project are `make demo` and `make test`. Both install what they need; caches are outside the tree
# (cargo's own, and MICROSCALER_CACHE, by default ~/.cache/microscaler).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help demo demo-kubernetes test lint bench bench-endurance bench-policy static crds install-manifests build mesos kubernetes servers clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: ## Start a real Mesos and show live how important work takes room and gives it back; MARATHON=1: on a Marathon
	@tests/testbed/demo$(if $(MARATHON),-marathon)

demo-kubernetes: ## The same with apps in a real Kubernetes API server, through kubectl
	@tests/testbed/demo-kubernetes

test: lint mesos kubernetes servers ## Run all tests, most on a real Mesos, many on a real Kubernetes
	cargo test --workspace --lib --bins --tests --no-fail-fast -- --test-threads=$(TEST_THREADS)

# Each test of the whole program has a Mesos of its own.
TEST_THREADS ?= 4

lint: ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo check --no-default-features

bench: mesos kubernetes ## Measure on a real Mesos, beside a bare client, with Marathon and with Kubernetes
	cargo bench --bench reaction
	cargo bench --bench marathon
	cargo bench --bench scale
	cargo bench --bench operator
	cargo bench --bench planner

bench-endurance: mesos ## Half an hour of flash crowds, and what becomes of the memory
	cargo bench --bench endurance

bench-policy: ## Judge our policy beside other autoscalers, in simulated time
	cargo bench --bench policy

crds: ## Write crds/, and the chart's copy of it, anew from the types
	cargo run -q -- crd --output-dir crds
	cp crds/*.yaml charts/microscaler/files/crds/

# What only Helm reads is left out.
install-manifests: ## Write manifests/install anew from the chart
	@helm="$$(tests/testbed/kubernetes/install)/helm"; \
	render() { \
	  "$$helm" template microscaler charts/microscaler --namespace microscaler-system "$$@" | \
	    sed -e '1i # Made by `make install-manifests` from charts/microscaler.' -e '/^# Source: /d' \
	      -e '/^ *helm.sh\/chart:/d' -e '/^ *app.kubernetes.io\/managed-by:/d' \
	      -e '/^  annotations:$$/{N;/helm.sh\/resource-policy/d}'; \
	}; \
	render --show-only templates/crds.yaml > manifests/install/crds.yaml; \
	render --set crds.install=false > manifests/install/microscaler.yaml

build: ## Build the release binary
	cargo build --release

# --target has to be named, or RUSTFLAGS would reach procedural macros, which cannot be static. Without relocations, no page of the
# program is written to: that is memory saved for each executor.
static: ## Build static binaries, as agents need them for pooled apps
	host=$$(rustc -vV | sed -n 's/^host: //p'); \
	CARGO_PROFILE_RELEASE_STRIP=symbols RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	  cargo build --release --locked --target "$$host" --bin microscaler --bin microscaler-executor; \
	ls -sh1 "$${CARGO_TARGET_DIR:-target}/$$host/release/"{microscaler,microscaler-executor}

mesos: ## Install and build what the testbed needs
	@tests/testbed/mesos/install --zookeeper --images --docker > /dev/null

kubernetes: ## Build what the testbed needs of Kubernetes, with Go
	@tests/testbed/kubernetes/install > /dev/null

servers: ## Install the servers that demand is read from in the tests
	@for server in $(SERVERS); do tests/testbed/servers/install $$server > /dev/null; done

SERVERS := azurite kafka moto nats nsq postgres prometheus rabbitmq redis

clean: ## Remove what was built
	cargo clean
