# The project's commands. They need Python 3.11 or newer, cargo, make and a C compiler; everything else goes to .venv.

PYTHON ?= python3
BENCH ?= full
REGISTRY ?= local
ARGS ?=
INPUTS ?= 1000000
SWITCHES ?= 2
SOAKED := $(addprefix tests/,proof promises clients cluster/test_random.py cluster/test_processes.py cluster/test_contact.py \
    cluster/test_death.py cluster/test_overload.py cluster/test_fork.py cluster/test_demo.py deploy/test_servers.py etcd/test_outages.py \
    etcd/test_endpoints.py unit/test_links.py)

VENV := .venv
RUN := $(VENV)/bin/python
BUILT := $(VENV)/.built
# The needs of a command are installed when it is first given: $(WITH)test is the stamp of the extra "test".
WITH := $(VENV)/.with-
# Prints the requirements of an extra; "build" is what pip itself builds the package with.
REQUIREMENTS := import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
    extras = project["project"]["optional-dependencies"] | {"build": project["build-system"]["requires"]}; \
    print(*extras[sys.argv[1]], sep="\n")
ENGINE := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.html' \))
# One profile and one interpreter for cargo: the parts that the extension, the tests and clippy share are compiled once.
CARGO := PYO3_PYTHON=$(CURDIR)/$(RUN) cargo

.DEFAULT_GOAL := help
.PHONY: help build test lint format proto reference demo bench soak fuzz races wheels clean
.DELETE_ON_ERROR:
.NOTPARALLEL: # pip installs one thing at a time; cargo uses every core by itself
.PRECIOUS: $(WITH)%

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s%s\n", $$1, $$2 }'

build: $(BUILT) ## build the native engine into .venv

test: $(BUILT) $(WITH)test ## run the tests of the engine and of the package
	$(CARGO) test --release --locked -p kamacache-engine
	$(RUN) -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(BUILT) $(WITH)lint $(WITH)test $(WITH)bench ## check style, types, the stub of the native module, and that fuzz/ and races/ compile
	@cargo fmt --version >/dev/null 2>&1 || { echo "make lint needs rustfmt: rustup component add rustfmt"; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 || { echo "make lint needs clippy: rustup component add clippy"; exit 1; }
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pyright --pythonpath $(RUN) examples tests/unit/typing_*.py
	$(RUN) -m mypy.stubtest kamacache._engine --mypy-config-file pyproject.toml
	cargo fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets --features pyo3/extension-module -- -D warnings
	cargo check --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir target/checked
	cargo check --quiet --locked --manifest-path races/Cargo.toml --target-dir target/checked

format: $(WITH)lint ## rewrite the sources in the project's style
	$(RUN) -m ruff format .
	cargo fmt --all

proto: ## write the code that the engine has of proto/*.proto
	KAMACACHE_RENEW=1 $(CARGO) test --release --locked -p kamacache-engine --test proto

reference: $(BUILT) ## write docs/reference.md from the docstrings
	$(RUN) -m tools.reference

demo: $(BUILT) $(if $(filter etcd,$(REGISTRY)),$(WITH)demo) ## watch three processes share one cache (REGISTRY=etcd: while etcd fails; ARGS="--help")
	$(RUN) -m tools.demo --registry $(REGISTRY) $(ARGS)

bench: $(BUILT) $(WITH)bench ## measure (BENCH=short: in a minute or two)
	$(RUN) -m bench $(if $(filter short,$(BENCH)),--short) $(ARGS)

soak: $(BUILT) $(WITH)test ## long random schedules, long outages of etcd, every combination of cases (MINUTES=30: processes and faults alone)
ifdef MINUTES
	$(RUN) -m tests.proof.soak --minutes $(MINUTES) $(ARGS)
else
	KAMACACHE_SOAK=$${KAMACACHE_SOAK:-300} KAMACACHE_SEEDS=$${KAMACACHE_SEEDS:-10000} KAMACACHE_CASES=$${KAMACACHE_CASES:-all} \
	    $(RUN) -m pytest $(SOAKED) $(ARGS)
endif

fuzz: $(BUILT) $(WITH)test ## feed random inputs to every parser (INPUTS=1000000 each; PROPTEST_CASES=2000 HYPOTHESIS=soak)
	PROPTEST_CASES=$${PROPTEST_CASES:-2000} $(CARGO) test --release --locked -p kamacache-engine
	$(RUN) -m pytest --hypothesis-profile=$${HYPOTHESIS:-soak} -m hypothesis $(ARGS)
	$(RUN) -m tools.fuzz --inputs $(INPUTS)

races: $(RUN) ## try every order of the steps of threads that share something (SWITCHES=2; with a nightly toolchain also Miri)
	$(RUN) -m tools.races --switches $(SWITCHES)

wheels: $(WITH)build $(WITH)wheels ## build, audit and try the wheels and the source distribution, into dist
	$(RUN) -m tools.wheels $(ARGS)

clean: ## remove what was built
	rm -rf $(VENV) target dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "KamaCache needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments: install its venv package"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(WITH)%: pyproject.toml | $(RUN)
	@$(RUN) -c '$(REQUIREMENTS)' $* > $@.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r $@.txt
	@touch $@

$(BUILT): $(WITH)build $(ENGINE)
	@cargo --version >/dev/null 2>&1 || { echo "KamaCache builds with Rust's cargo, 1.85 or newer: see https://rustup.rs"; exit 1; }
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) PYO3_PYTHON=$(CURDIR)/$(RUN) $(VENV)/bin/maturin develop --quiet --release --locked
	@touch $@
