# One line per target; `make help` lists them. Every target installs what it needs (.ci/setup).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# Builds are for this machine; `dist` builds for both architectures.
export CARGO_BUILD_TARGET ?= $(shell uname -m)-unknown-linux-musl
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
NEXTEST = cargo nextest run --locked
# Of all packages, images and lists of contents that are in out/.
CHECKSUMS = cd out && sha256sum $$(ls *.deb *.rpm *.cdx.json *.oci.tar 2>/dev/null) >SHA256SUMS

.PHONY: help run test test-long build-times check client screenshots bench bench-client dist packages image reproduce torture failing-calls killed-restores fuzz simulate soak attack bodies timeline guesses s3 advisories test-support vm-test vm-test-short

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile

run: ## build and start a server at http://localhost:4000, data in ./data
	@.ci/setup build
	cargo build --locked --profile quick --bin chatto
	exec target/$(CARGO_BUILD_TARGET)/quick/chatto start

test: ## run all tests, the randomised and long ones as short samples (test-long)
	@.ci/setup build tests
	.ci/test-build dev
	$(NEXTEST)
	node --test tests/web/unit/*.test.js
# The browser tests use the server that was built for the tests above. They wait most of the time, so two files run at
# once; the one that measures scrolling runs alone.
	WEB_TEST_MESSAGES=$${WEB_TEST_MESSAGES:-1500} node --test --test-concurrency=1 tests/web/timeline.test.js
	node --test --test-concurrency=2 $(filter-out tests/web/timeline.test.js,$(wildcard tests/web/*.test.js))

test-long: ## run the long and randomised tests, about three hours: kill loop, failing calls, killed restores, simulations, fuzzing, floods, long bodies, a long room, idle sockets, guesses, S3
	$(MAKE) torture
	$(MAKE) failing-calls
	$(MAKE) killed-restores
	$(MAKE) simulate
	$(MAKE) fuzz
	CHATTO_ATTACK_SECONDS=$${CHATTO_ATTACK_SECONDS:-300} $(MAKE) attack
	$(MAKE) bodies
	$(MAKE) timeline
	$(MAKE) soak
	$(MAKE) guesses
	$(MAKE) s3

build-times: ## measure cold builds and rebuilds after one changed line, in seconds
	@.ci/setup build tests
	@.ci/build-times

check: ## check format, lints, documentation, dependency rules, layer table
	@.ci/setup build tests
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --features test-support --lib --examples -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
	cargo deny --locked --log-level error check bans licenses sources
	.ci/one-build
	npm run --prefix src/web/client --silent check
	$(NEXTEST) -E 'test(/^layers::/)'

bench: ## measure the figures of docs/performance.md on this machine; options: CHATTO_BENCH… (see there)
	@.ci/setup build bench
	cargo build --locked --release --bin chatto --example bench
	$${CARGO_TARGET_DIR:-target}/$(CARGO_BUILD_TARGET)/release/examples/bench

client: ## build the web client into src/web/dist, which the server embeds
	@.ci/client

screenshots: ## save pictures of every screen, light, dark and phone, to out/screenshots
	@.ci/setup build tests
	cargo build --locked --bin chatto
	WEB_SCREENSHOTS=$(CURDIR)/out/screenshots node --test tests/web/screens.test.js

test-support: ## build a server with test routes, only for tests of clients
	@.ci/setup build
	.ci/test-build quick

bench-client: ## measure the web client in Debian's Chromium and compare with the targets
	@.ci/setup build tests
	cargo build --locked
	WEB_TEST_FRAME_MS=8 WEB_TEST_INTERACTIVE_MS=1000 WEB_TEST_ENTER_MS=100 \
		node --test --test-concurrency=1 --test-reporter=spec tests/web/budget.test.js tests/web/timeline.test.js

dist: ## build release binaries for x86_64 and aarch64, nats-server included
	@.ci/setup build cross
	cross/build.sh x86_64-unknown-linux-musl
	cross/check-static.sh x86_64-unknown-linux-musl
	cross/build.sh aarch64-unknown-linux-musl
	cross/check-static.sh aarch64-unknown-linux-musl

packages: dist ## make .deb and .rpm of both architectures in out/, check them, and install them in a clean container
	@.ci/setup build cross packages
	for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do \
		packaging/build.sh $$target; \
		packaging/check.sh $$target; \
		packaging/inventory.py bom $$target >out/chatto-$$target.cdx.json; \
	done
	$(CHECKSUMS)
	tests/packages/deb.sh
	tests/packages/rpm.sh
	tests/packages/arm64.sh

image: dist ## make container images of both architectures in out/, without a container engine, check them, and run one
	@.ci/setup build cross packages
	for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do \
		packaging/image.py $$target; \
		packaging/check.sh $$target image; \
	done
	$(CHECKSUMS)
	tests/packages/image.sh

reproduce: ## build packages and images here and in a fresh clone elsewhere, and compare their bytes; REPRODUCE=TARGET for one
	cross/reproduce.sh $(REPRODUCE)

vm-test: ## run the tests of the package in a virtual machine: power cuts, memory, clocks, USB sticks (root, tests/guest)
	@.ci/setup build guest
	cargo build --locked --bin chatto
	python3 -m unittest discover -v -s tests/guest

vm-test-short: ## run the package from its installation over a backup on a stick to the restore from it, in one boot
	@tests/guest/short

torture: ## run the kill loops of messages and of files, 200 rounds each
	@.ci/setup build tests
	CHATTO_TORTURE_ROUNDS=$${CHATTO_TORTURE_ROUNDS:-200} $(NEXTEST) --no-capture -E 'test(/^torture::|^service::leftovers::/)'

failing-calls: ## make every system call of a backup and of a restore on their files fail, with every error
	@.ci/setup build tests
	CHATTO_FAILING_CALLS=all $(NEXTEST) -E 'test(/^acceptance::failing_calls::/)'

killed-restores: ## kill a restore into NATS at each of its writes, and nats-server at some; then run it again
	@.ci/setup build tests
	CHATTO_KILLED_RESTORES=$${CHATTO_KILLED_RESTORES:-all} $(NEXTEST) --no-capture -E 'test(/^acceptance::killed_restores::/)'

simulate: ## run operations and kills against models of store and sockets, CHATTO_SIMULATION_SECONDS (1800) each; elections
	@.ci/setup build tests
	CHATTO_SIMULATION_SECONDS=$${CHATTO_SIMULATION_SECONDS:-1800} $(NEXTEST) --no-capture -E 'test(/^realtime::(simulation|elections|rights)::|^storage::simulation::/)'

soak: ## hold 1,000 idle sockets next to a busy room for ten minutes
	@.ci/setup build tests
	CHATTO_SOAK_SOCKETS=$${CHATTO_SOAK_SOCKETS:-1000} CHATTO_SOAK_SECONDS=$${CHATTO_SOAK_SECONDS:-600} $(NEXTEST) --no-capture -E 'test(/^realtime::idle::/)'

attack: ## flood from 64 sockets and measure a member's p99 with and without; CHATTO_ATTACK_SECONDS (30), release build
	@.ci/setup build tests
	cargo build --locked --release --bin chatto
	CHATTO_ATTACK_SERVER=$$(realpath $${CARGO_TARGET_DIR:-target}/$(CARGO_BUILD_TARGET)/release/chatto) $(NEXTEST) --no-capture -E 'test(/^acceptance::attack::/)'

bodies: ## pass bodies of CHATTO_BODY_MIB (1024) through the server in constant memory
	@.ci/setup build tests
	CHATTO_BODY_MIB=$${CHATTO_BODY_MIB:-1024} $(NEXTEST) -E 'test(/^http::torture::bodies::long_bodies/)'

timeline: ## scroll through a room of WEB_TEST_MESSAGES (10,000) in the browser
	@.ci/setup build tests
	cargo build --locked --bin chatto
	node --test tests/web/timeline.test.js

guesses: ## make 100,000 failed log-ins, CHATTO_GUESSES of them through the service, then a correct one
	@.ci/setup build tests
	CHATTO_GUESSES=$${CHATTO_GUESSES:-100000} $(NEXTEST) --no-capture -E 'test(/^service::guesses::a_hundred_thousand/)'

s3: ## run the tests of S3 against SeaweedFS, rclone and versitygw
	@.ci/setup build stores
	CHATTO_S3_SERVERS=seaweedfs,rclone,versitygw $(NEXTEST) -E 'test(/^blobs::/)'

fuzz: ## run every fuzz target for CHATTO_FUZZ_SECONDS (600); findings are kept in tests/fuzz/corpus
	@.ci/setup build tests
	CHATTO_FUZZ_SECONDS=$${CHATTO_FUZZ_SECONDS:-600} $(NEXTEST) --profile fuzz --no-capture -E 'test(/fuzz::.*take_any_bytes/)'

advisories: ## check dependencies for known vulnerabilities; reports what could not be checked (needs the network)
	@.ci/setup build tests
	@.ci/advisories
