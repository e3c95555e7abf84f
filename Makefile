# `make demo` and `make test` do all of their own set-up, each alone, from a clean clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(shell find picows feeds strategies -name '*.pyx' -o -name '*.pxd' -o -name 'mask.[ch]' -o -name '*.h')

.PHONY: demo test bench lint conformance fuzz soak soak-recording soak-faults clean

demo: $(VENV)/.built
	$(BIN)/feeds demo

# A process for each core; the tests of a file stay together, with what they have built.
test: $(VENV)/.built $(VENV)/.tools
	$(BIN)/python -m pytest -n auto --dist loadfile

# Each benchmark, in under ten minutes: some with fewer sizes, connections, rounds and minutes than in RESULTS.md.
QUICK := benchmarks/websocket.py benchmarks/connections.py benchmarks/soak.py benchmarks/peer_faults.py
bench: $(VENV)/.built
	for benchmark in $(filter-out $(QUICK),$(wildcard benchmarks/*.py)); do $(BIN)/python $$benchmark || exit 1; done
	for benchmark in $(QUICK); do $(BIN)/python $$benchmark --quick || exit 1; done

lint: $(VENV)/.built $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --ignore-disjoint-bases picows feeds strategies --allowlist tests/typing/stubtest_allowlist.txt

# The Autobahn suite against our server and client; see tests/conformance/run.py for where it comes from.
conformance: $(VENV)/.built
	$(BIN)/python -m tests.conformance.run

# Each target for FUZZ_SECONDS. Atheris has no build for every Python: where it cannot be installed, that is said.
FUZZ_SECONDS ?= 20
FUZZ_TARGETS := parser assembler inflater client_handshake server_handshake negotiation recording archive messages
fuzz: $(VENV)/.built $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --group fuzz || true
	for target in $(FUZZ_TARGETS); do $(BIN)/python -m tests.fuzz.fuzz $$target $(FUZZ_SECONDS) || exit 1; done

# Recorders killed at random moments, and whether all that they had flushed can be read. The tests do 20.
soak-recording: $(VENV)/.built $(VENV)/.tools
	RECORDING_KILLS=$${RECORDING_KILLS:-200} $(BIN)/python -m pytest tests/feeds/recording/test_crash.py -k killed

# Every fault at every simulated exchange, with three seeds; writes docs/fault-matrix.md. The tests do a part.
soak-faults: $(VENV)/.built $(VENV)/.tools
	$(BIN)/python -m tests.feeds.simulator.matrix

# All faults, and then 30 minutes of 500 symbols at 50,000 messages a second with a fault a minute.
soak: soak-faults
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf $(VENV) build dist *.egg-info
	find picows feeds strategies -name '*.so' -delete

$(VENV)/bin/python:
	@echo "Making a virtual environment in $(VENV)."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

# An editable install: the extension modules are built in place, and again when their sources change. Without debug symbols
# that takes two thirds of the time; the rest is what Python itself was built with.
BUILD_FLAGS := -O3 -g0 -fwrapv -DNDEBUG
$(VENV)/.built: $(VENV)/bin/python pyproject.toml $(SOURCES)
	@echo "Building the extension modules: a minute or two, once."
	$(BIN)/python -m pip install --quiet "setuptools>=77" "cython>=3.1"
	PYTHONWARNINGS=ignore CFLAGS="$(BUILD_FLAGS)" $(BIN)/python -m pip install --quiet --no-build-isolation --editable .
	touch $@

$(VENV)/.tools: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@
