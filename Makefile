# README's two commands are `make demo` and `make test`; each sets itself up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

SOURCES := pyproject.toml meson.build meson.options $(shell find src -name '*.py' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.[ch]' -o -name meson.build)
# The tools of the environment first: meson, ninja and cython are there.
ENV := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: demo test lint types test-c test-python conformance test-clients test-aio test-faults test-sanitizers bench clean

demo: build/stamp-package
	@$(ENV) $(PY) scripts/demo.py

test: lint types test-c test-python

lint: build/stamp-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: build/stamp-tools
	$(BIN)/mypy

test-c: build/stamp-tools
	$(ENV) scripts/build-c.sh build/c -Dtests=true -Dwerror=true
	$(ENV) meson test -C build/c --print-errorlogs --num-processes 1

test-python: build/stamp-package
	$(ENV) $(PY) -m pytest $(PYTEST_ARGS)

# The recorded scenarios of a real Win32 alone (they are a part of test-python too).
conformance: build/stamp-package
	$(ENV) $(PY) -m pytest tests/conformance $(PYTEST_ARGS)

# Programs that use pywin32 on Windows, fetched from PyPI and run unmodified.
test-clients: build/stamp-package
	$(ENV) $(PY) -m pytest tests/clients $(PYTEST_ARGS)

# Attackers, killers, races and loads, in a short form of some minutes; NPIPE_LONG=1 for the long one (docs/reliability.md).
test-faults: build/stamp-package
	$(ENV) $(PY) -m pytest tests/faults $(PYTEST_ARGS)

# The faces for event loops alone (they are a part of test-python too).
test-aio: build/stamp-package
	$(ENV) $(PY) -m pytest tests/test_aio_*.py tests/test_anyio.py $(PYTEST_ARGS)

# The engine's C tests under the address, undefined-behaviour and thread sanitizers.
test-sanitizers: build/stamp-tools
	$(ENV) scripts/build-c.sh build/san-address -Dtests=true -Db_sanitize=address,undefined -Dbuildtype=debugoptimized
	$(ENV) meson test -C build/san-address --print-errorlogs --num-processes 1 --timeout-multiplier 5
	$(ENV) scripts/build-c.sh build/san-thread -Dtests=true -Db_sanitize=thread -Dbuildtype=debugoptimized
	$(ENV) meson test -C build/san-thread --print-errorlogs --num-processes 1 --timeout-multiplier 5

bench: build/stamp-bench
	$(ENV) scripts/build-c.sh build/bench-c -Dbench=true
	mkdir -p build/bench && cp build/bench-c/bench/limit build/bench/limit
	$(ENV) $(PY) -m bench $(BENCH_ARGS)

clean:
	rm -rf build .venv

# ---- Set-up

build/stamp-venv:
	@scripts/check-machine.sh $(PYTHON)
	@mkdir -p build
	$(PYTHON) -m venv $(VENV)
	touch $@

build/stamp-tools: build/stamp-venv pyproject.toml
	$(PY) scripts/install-groups.py build test
	$(PY) scripts/install-groups.py --extra cli
	touch $@

build/stamp-package: build/stamp-tools $(SOURCES)
	$(ENV) $(PY) -m pip install --quiet --no-build-isolation --no-deps --force-reinstall -Cbuild-dir=build/package -Csetup-args=-Dwerror=true .
	touch $@

build/stamp-bench: build/stamp-package
	$(PY) scripts/install-groups.py bench
	touch $@
