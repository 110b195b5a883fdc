# What to run. `make` alone prints this help.
CARGO ?= cargo
FUZZ_SECONDS ?= 600
NIGHTLY ?= nightly
HOST := $(shell rustc -vV | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt clippy docs deny bench fuzz fuzz-smoke asan miri shuttle

help: ## This text.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The main job on real data: import, kill, recover, search, verify.
	$(CARGO) run --release --locked -p vecstone-cli -- demo

test: ## Everything that must pass: unit, crash, fault, corruption, command-line and documentation tests.
	$(CARGO) test --locked --workspace --lib -- --nocapture --quiet
	$(CARGO) test --locked --workspace --bins --test '*'
	$(CARGO) test --locked --workspace --doc

check: fmt clippy docs deny ## Format, lints, documentation, dependencies.

fmt: ## The format of the code.
	$(CARGO) fmt --all --check

clippy: ## Lints; warnings are errors.
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

docs: ## Documentation without warnings.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

deny: ## Licences, advisories and sources of what we link (needs cargo-deny).
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --workspace check bans licenses sources; \
	else echo "cargo-deny is not installed: skipped (cargo install cargo-deny --locked)"; fi

bench: ## Speed as a ratio to the machine's limit; exit 1 below a target.
	$(CARGO) bench --locked -p vecstone --bench limits -- $(FIGURES)

fuzz: ## Each fuzz target for FUZZ_SECONDS (600); needs a nightly toolchain and cargo-fuzz.
	@for target in $$(cd fuzz && $(CARGO) +$(NIGHTLY) fuzz list); do \
	  echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
	  (cd fuzz && mkdir -p work/$$target && $(CARGO) +$(NIGHTLY) fuzz run $$target work/$$target corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=1) || exit 1; \
	done

asan: ## The tests under AddressSanitizer; needs a nightly toolchain.
	@if rustc +$(NIGHTLY) --version >/dev/null 2>&1; then \
	  VECSTONE_QUICK=1 RUSTFLAGS="-Zsanitizer=address" $(CARGO) +$(NIGHTLY) test --locked -p vecstone --target $(HOST) \
	    --target-dir target/asan --lib --tests -- --skip planted; \
	else echo "no nightly toolchain: AddressSanitizer skipped"; fi

miri: ## The format code under Miri; needs a nightly toolchain with Miri.
	@if $(CARGO) +$(NIGHTLY) miri --version >/dev/null 2>&1; then \
	  $(CARGO) +$(NIGHTLY) miri test --locked -p vecstone --lib format::; \
	else echo "Miri is not installed: skipped (rustup +$(NIGHTLY) component add miri)"; fi

shuttle: ## Interleavings of threads under a scheduler; VECSTONE_SCHEDULES=2000 for each test.
	$(CARGO) test --locked -p vecstone --features shuttle --lib shuttle
