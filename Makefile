# What to run. `make` alone prints this help.
CARGO ?= cargo
FUZZ_SECONDS ?= 600
NIGHTLY ?= nightly
PYTHON ?= python3
VENV := $(CURDIR)/target/venv
PEERS := $(CURDIR)/target/peers-venv
SEARCH := $(CURDIR)/target/search-venv
SEARCH_DATA ?= $(CURDIR)/target/search-data
EXAMPLES := $(CURDIR)/target/examples-venv
FREETHREADED ?= python3.13t python3.14t python3.15t
MUTANTS ?= format pair segment open engine maintain
SHARD ?= 0/1
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MSRV := $(shell sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
TARGETS ?= x86_64-pc-windows-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin
HOST := $(shell rustc -vV | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python wheel wheel-freethreaded sdist stubs check types fmt clippy docs deny msrv targets tidy bench bench-rust bench-python bench-peers bench-search examples fuzz fuzz-smoke asan miri shuttle mutants

help: ## This text.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

DEBIAN := crates/vecstone-cli/data/debian-4096

demo: ## The main job on real data: import, kill, recover, search, verify.
	$(CARGO) run --release --locked -p vecstone-cli -- demo --vectors $(DEBIAN)x384.npy --ids $(DEBIAN).ids

test: test-rust test-python ## Everything that must pass.

test-rust: ## Unit, crash, fault, corruption, command-line, text and documentation tests.
	$(CARGO) test --locked --workspace --exclude vecstone-python --lib -- --nocapture --quiet
	$(CARGO) test --locked --workspace --exclude vecstone-python --bins --test '*'
	$(CARGO) test --locked --workspace --exclude vecstone-python --doc

# The tools of the Python tests, in an environment of their own.
$(VENV)/.ready: python/requirements-test.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 test")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r python/requirements-test.txt
	touch $@

# The package, built as a wheel in target/wheel and installed there. Tests share what test-rust has compiled; speed is
# measured of a release.
.PHONY: installed installed-release
installed installed-release: $(VENV)/.ready
	rm -rf target/wheel && cd python && $(VENV)/bin/maturin build --profile $(if $(filter %-release,$@),release,dev) \
	  --locked --quiet --out ../target/wheel
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/wheel/*.whl

test-python: installed ## The Python package: the API against a dict, processes, adapters.
	cd python/tests && $(VENV)/bin/pytest -c ../pyproject.toml
	cd python/tests && $(VENV)/bin/python ../check_langchain.py

types: installed ## The types of the Python package, its tests and the examples, by mypy and pyright.
	cd python && $(VENV)/bin/mypy vecstone tests ../examples && $(VENV)/bin/pyright vecstone tests ../examples
	cd target && PATH="$(VENV)/bin:$$PATH" pyright --verifytypes vecstone --ignoreexternal
	cd python && $(VENV)/bin/stubtest vecstone._core --mypy-config-file pyproject.toml --allowlist stubtest-allow.txt

stubs: installed ## Writes the docstrings of the built extension into its stub.
	$(VENV)/bin/python -P python/stubs.py

wheel: $(VENV)/.ready ## A wheel for every Linux with glibc 2.17 or newer, and CPython 3.11 or newer, in target/wheels; its largest crates.
	$(VENV)/bin/pip install --quiet --disable-pip-version-check ziglang==0.15.2
	rm -rf target/wheels
	cd python && PATH="$(VENV)/bin:$$PATH" maturin build --release --locked --strip false --zig --compatibility manylinux2014 \
	  --out ../target/wheels
	$(VENV)/bin/python -P python/wheel.py target/wheels/*.whl

WHEEL_TARGETS ?= aarch64-unknown-linux-gnu

.PHONY: wheels
wheels: wheel ## The same for other platforms, where std for them is installed; nothing here can run them.
	@for target in $(WHEEL_TARGETS); do \
	  if rustup target list --installed 2>/dev/null | grep -qx $$target; then \
	    (cd python && PATH="$(VENV)/bin:$$PATH" maturin build --release --locked --zig --target $$target \
	      --compatibility manylinux2014 --out ../target/wheels) || exit 1; \
	  else echo "std for $$target is not installed: skipped (rustup target add $$target)"; fi; \
	done

wheel-freethreaded: $(VENV)/.ready ## A wheel for a free-threaded interpreter, tested; skipped where there is none.
	@for python in $(FREETHREADED); do \
	  if command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys._is_gil_enabled())' 2>/dev/null; then \
	    set -e; rm -rf target/wheels-freethreaded target/venv-freethreaded; \
	    (cd python && $(VENV)/bin/maturin build --release --locked --no-default-features --interpreter $$python \
	      --out ../target/wheels-freethreaded); \
	    $$python -m venv target/venv-freethreaded; \
	    target/venv-freethreaded/bin/pip install --quiet pytest hypothesis pytest-asyncio numpy \
	      target/wheels-freethreaded/*.whl; \
	    cd python/tests; exec ../../target/venv-freethreaded/bin/python -P -X gil=0 -m pytest -c ../pyproject.toml \
	      test_store.py test_model.py test_handles.py test_binding.py; fi; \
	done; echo "no free-threaded interpreter ($(FREETHREADED)): skipped"

sdist: $(VENV)/.ready ## A source distribution in target/sdist, installed from there and asked for its version.
	rm -rf target/sdist target/venv-sdist && cd python && $(VENV)/bin/maturin sdist --out ../target/sdist
	$(PYTHON) -m venv target/venv-sdist && target/venv-sdist/bin/pip install --quiet target/sdist/*.tar.gz
	cd target/sdist && ../venv-sdist/bin/vecstone --version && ../venv-sdist/bin/python -P -c 'import vecstone; print(vecstone.__version__)'

CRATES := vecstone vecstone-arrow vecstone-cli

# In a workspace of their own: nothing but what is in the packages.
.PHONY: crates
crates: ## The crates as they go to crates.io: packed, unpacked, built there; their documentation tests.
	$(CARGO) package --quiet --locked --no-verify --allow-dirty $(addprefix -p ,$(CRATES))
	rm -rf target/crates/*/ && mkdir -p target/crates && cp Cargo.lock target/crates
	cd target/crates && for crate in $(CRATES); do tar xzf ../package/$$crate-$(VERSION).crate; done
	cd target/crates && { echo '[workspace]'; echo 'resolver = "3"'; echo 'members = ["vecstone*"]'; \
	  echo '[patch.crates-io]'; for crate in $(CRATES); do echo "$$crate.path = \"$$crate-$(VERSION)\""; done; } > Cargo.toml
	cd target/crates && $(CARGO) test --doc --workspace --target-dir ../crates-build
	ls -l $(foreach crate,$(CRATES),target/package/$(crate)-$(VERSION).crate)

check: fmt clippy docs deny licences-check types ## Format, lints, documentation, dependencies.

fmt: ## The format of the code.
	$(CARGO) fmt --all --check

tidy: ## The rules for text alone: widths, lengths, words, links, layers (part of `make test`).
	$(CARGO) test --locked -p vecstone-tidy --lib

clippy: ## Lints; warnings are errors.
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

docs: ## Documentation without warnings.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --exclude vecstone-python --no-deps --document-private-items

deny: ## Licences, advisories and sources of what we link (needs cargo-deny).
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --workspace check bans licenses sources; \
	else echo "cargo-deny is not installed: skipped (cargo install cargo-deny --locked)"; fi

licences: ## Writes the licences of all linked crates to python/LICENSES-THIRD-PARTY.txt, which wheel and sdist carry.
	CARGO=$(CARGO) $(PYTHON) python/licences.py

.PHONY: licences licences-check
licences-check:
	CARGO=$(CARGO) $(PYTHON) python/licences.py --check

msrv: ## Builds with the oldest toolchain that Cargo.toml names (rust-version); skipped where it is not installed.
	@toolchain=$$(rustup toolchain list 2>/dev/null | sed -n 's/^\($(MSRV)[.0-9]*-[^ ]*\).*/\1/p' | head -n 1); \
	if [ -n "$$toolchain" ]; then $(CARGO) +$$toolchain check --locked --workspace; \
	else echo "Rust $(MSRV) is not installed: skipped (rustup toolchain install $(MSRV) --profile minimal)"; fi

targets: ## Checks the library for Windows, ARM Linux and macOS; skips those whose std is not installed.
	@for target in $(TARGETS); do \
	  if rustup target list --installed 2>/dev/null | grep -qx $$target; then \
	    echo "checking for $$target"; $(CARGO) check --locked -p vecstone --target $$target || exit 1; \
	  else echo "std for $$target is not installed: skipped (rustup target add $$target)"; fi; \
	done

bench: bench-rust bench-python ## Speed as a ratio to the machine's limit; exit 1 below a target.

bench-rust: ## The same, of the library; FIGURES="put read" for some groups.
	$(CARGO) bench --locked -p vecstone --bench limits -- $(FIGURES)

bench-python: installed-release ## The same, of the Python package.
	$(VENV)/bin/python bench/run.py --ours --results target/results.jsonl

bench-peers: installed-release ## All stores, in the versions of bench/requirements.txt: table and plot.
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheel/*.whl
	$(PEERS)/bin/python bench/run.py --peers; code=$$?; $(PEERS)/bin/python bench/run.py --render && exit $$code

bench-search: installed-release ## Exact search beside FAISS, NumPy and hnswlib, with targets; ONLY="real filter" for some rows.
	$(PYTHON) -m venv $(SEARCH)
	$(SEARCH)/bin/pip install --quiet --disable-pip-version-check -r bench/search/requirements.txt
	$(SEARCH)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r examples/requirements.txt
	$(SEARCH)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheel/*.whl
	test -e $(SEARCH_DATA)/minilm.npy || $(SEARCH)/bin/python bench/make_embeddings.py $(SEARCH_DATA)/minilm.npy
	$(SEARCH)/bin/python bench/search/run.py --data $(SEARCH_DATA) $(if $(ONLY),--only $(ONLY))

RUST_EXAMPLES := $(basename $(notdir $(wildcard crates/vecstone/examples/*.rs)))

.PHONY: examples-rust
examples-rust: ## The examples in Rust (crates/vecstone/examples).
	@for example in $(RUST_EXAMPLES); do \
	  echo "example $$example"; $(CARGO) run --quiet --locked -p vecstone --example $$example || exit 1; \
	done

examples: examples-rust installed ## The examples, in Rust, and in Python with a real model.
	$(PYTHON) -m venv $(EXAMPLES)
	$(EXAMPLES)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r examples/requirements.txt
	$(EXAMPLES)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheel/*.whl
	$(EXAMPLES)/bin/python examples/test_minilm.py
	rm -rf target/semantic-search
	$(EXAMPLES)/bin/python examples/semantic_search.py
	$(EXAMPLES)/bin/python examples/semantic_search.py "how large can an id be?"
	$(EXAMPLES)/bin/python examples/numpy_reads_it.py
	$(EXAMPLES)/bin/python examples/notebook.py

fuzz: ## Each fuzz target for FUZZ_SECONDS (600); needs a nightly toolchain and cargo-fuzz.
	@for target in $$(cd fuzz && $(CARGO) +$(NIGHTLY) fuzz list); do \
	  echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
	  (cd fuzz && mkdir -p work/$$target && $(CARGO) +$(NIGHTLY) fuzz run $$target work/$$target corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=1) || exit 1; \
	done

# Left out: what takes hours under it, and runs on the simulated disk, which has neither mappings nor system calls.
# It needs far more address space than the tests of limits allow.
asan: ## The tests under AddressSanitizer; needs a nightly toolchain.
	@if rustc +$(NIGHTLY) --version >/dev/null 2>&1; then \
	  RUSTFLAGS="-Zsanitizer=address" $(CARGO) +$(NIGHTLY) test --locked -p vecstone --target $(HOST) \
	    --target-dir target/asan --lib --tests -- \
	    $(foreach part,planted tests::crash tests::fault tests::panic tests::beside tests::unfinished tests::forged \
	      tests::lying a_filter_may_select_more coded::bound query::bound \
	      what_is_found_is_what_the_reference_says what_cannot_be_had fit_into_a_gigabyte \
	      what_does_not_fit_is_an_error,--skip $(part)); \
	else echo "no nightly toolchain: AddressSanitizer skipped"; fi

miri: ## The format code under Miri; needs a nightly toolchain with Miri.
	@if $(CARGO) +$(NIGHTLY) miri --version >/dev/null 2>&1; then \
	  $(CARGO) +$(NIGHTLY) miri test --locked -p vecstone --lib format::; \
	else echo "Miri is not installed: skipped (rustup +$(NIGHTLY) component add miri)"; fi

shuttle: ## Interleavings of threads under a scheduler; VECSTONE_SCHEDULES=2000 for each test.
	$(CARGO) test --locked -p vecstone --features shuttle --lib shuttle

# A part is a module of the library with those in its folder.
mutants: ## Mutants that the library tests must notice; PART=pair for one module, SHARD=0/8 for an eighth (needs cargo-mutants).
	@if $(CARGO) mutants --version >/dev/null 2>&1; then \
	  VECSTONE_MUTANTS=1 VECSTONE_CASES=0..200 CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_TEST_DEBUG=none \
	  $(CARGO) mutants --package vecstone --output target --shard $(SHARD) \
	    $(foreach part,$(or $(PART),$(MUTANTS)),-f 'crates/vecstone/src/$(part).rs' -f 'crates/vecstone/src/$(part)/**'); \
	else echo "cargo-mutants is not installed: skipped (cargo install cargo-mutants --locked)"; fi
