# README's two commands are `make demo` and `make test`; each sets itself up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

SOURCES := pyproject.toml meson.build meson.options $(shell find src -name '*.py' -o -name '*.pyi' -o -name '*.pyx' \
    -o -name '*.px[di]' -o -name '*.[ch]' -o -name meson.build)
# Looked for when it is used: a copy for a build need not have them.
C_SOURCES = $(shell find src/npipe/engine tests/c tests/fuzz tests/windows bench -name '*.[ch]')
# The tools of the environment first: meson, ninja and cython are there.
ENV := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: test-all test-quick test-slow test-collect
.PHONY: demo demo-remote test lint format types test-c test-python conformance test-clients test-samba test-samba-long
.PHONY: test-aio test-sanitizers
.PHONY: setup-windows test-windows wheels bench plots pictures clean
.PHONY: test-pythons test-nogil test-faults test-integrity test-fuzz test-model test-valgrind test-aarch64
.PHONY: test-asan-python docs test-docs linkcheck

# Quickly compiled where nothing is yet (binding_optimization in meson.options); the tests compile it as it is shipped.
demo: $(if $(wildcard build/stamp-npipe),build/stamp-npipe,build/stamp-demo)
	@$(PY) -m npipe demo

# The quick parts first; how far it is, and at the end what each took. mypy thinks on one processor meanwhile.
test: build/stamp-package
	@$(PY) scripts/run_parts.py lint types --beside test-collect test-c --then test-quick

# All that `make test` runs, and the slow ones.
test-all: build/stamp-package
	@$(PY) scripts/run_parts.py lint types --beside test-collect test-c --then test-python

lint: build/stamp-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(PY) scripts/check_text.py
	$(PY) scripts/check_layers.py
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

# Python and C in the one form that they have (pyproject.toml, .clang-format).
format: build/stamp-tools
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_SOURCES)

# As it is on Linux, and as it is on Windows.
types: build/stamp-tools
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/windows/mypy.ini

test-c: build/stamp-tools
	$(ENV) scripts/build-c.sh build/c -Dtests=true -Dwerror=true
	$(ENV) meson test -C build/c --print-errorlogs --num-processes 2

# Several tests at a time, WORKERS: most wait most of the time. WORKERS=0 for one after the other.
WORKERS ?= $(shell expr 2 '*' $$(nproc))
BESIDE := -n $(WORKERS) --dist worksteal

# Whether all tests can be found. It leaves their compiled form for all workers, which would make it each for itself.
test-collect: build/stamp-package
	@$(PY) -m pytest -q --collect-only >build/log-collect.txt || { cat build/log-collect.txt; exit 1; }
	@tail -n 1 build/log-collect.txt

test-python: build/stamp-package
	$(ENV) $(PY) -m pytest $(BESIDE) $(PYTEST_ARGS)

test-quick: build/stamp-package
	$(ENV) $(PY) -m pytest -q $(BESIDE) -m "not slow" --durations=5 $(PYTEST_ARGS)

# What `make test` leaves out, a test on each processor.
test-slow: build/stamp-package
	$(ENV) $(PY) -m pytest -n $(shell nproc) --dist worksteal -m slow $(PYTEST_ARGS)

# The recorded scenarios alone (they are a part of test-python too).
conformance: build/stamp-package
	$(ENV) $(PY) -m pytest tests/conformance $(PYTEST_ARGS)

# Programs that use pywin32 on Windows, fetched from PyPI and run unmodified.
test-clients: build/stamp-package
	$(ENV) $(PY) -m pytest -n $(WORKERS) --dist loadfile tests/clients $(PYTEST_ARGS)

# Pipes behind a real smbd. Installs Debian's samba and other people's SMB clients where it may; says what is missing.
test-samba: build/stamp-package
	PYTHON=$(PY) scripts/test-samba.sh $(PYTEST_ARGS)

# The same with the Samba of another Debian, in a tree of that (as root, 600 MB, some minutes the first time).
test-samba-long: build/stamp-package
	PYTHON=$(PY) scripts/test-samba-long.sh $(PYTEST_ARGS)

# The article's client and servers, with a private smbd between them.
demo-remote: build/stamp-package
	@$(ENV) $(PY) scripts/demo_remote.py

# The faces for event loops alone (they are a part of test-python too).
test-aio: build/stamp-package
	$(ENV) $(PY) -m pytest tests/aio $(PYTEST_ARGS)

# The tests that an interpreter's version has a bearing on, on each CPython from 3.11 to 3.14 that this machine has
# beside that of .venv, or on PYTHONS="PATH...". PYTEST_ARGS=tests for all of test-python.
test-pythons: build/stamp-venv
	scripts/test-pythons.sh build/pythons $(PYTEST_ARGS)

# On a CPython without the lock, and its threads under ThreadSanitizer: NOGIL_PYTHON=PATH, or one that is here, or one
# that `scripts/nogil-python.sh build/nogil --build` has made. PYTEST_ARGS=tests for all of test-python.
test-nogil: build/stamp-venv
	scripts/test-nogil.sh build/nogil $(PYTEST_ARGS)

# The engine's C tests under the address, undefined-behaviour and thread sanitizers.
test-sanitizers: build/stamp-tools
	$(ENV) scripts/build-c.sh build/san-address -Dtests=true -Db_sanitize=address,undefined -Dbuildtype=debugoptimized
	$(ENV) meson test -C build/san-address --print-errorlogs --num-processes 1 --timeout-multiplier 5
	$(ENV) scripts/build-c.sh build/san-thread -Dtests=true -Db_sanitize=thread -Dbuildtype=debugoptimized
	$(ENV) meson test -C build/san-thread --print-errorlogs --num-processes 1 --timeout-multiplier 5

# ---- Trust and faults (docs/reliability.md). NPIPE_LONG=1 is the long form of each.

# Attackers, killers, races and loads.
test-faults: build/stamp-package
	$(ENV) $(PY) -m pytest tests/faults $(PYTEST_ARGS)

# Numbered bytes through every pair of faces. NPIPE_SEED=n for the plan of that seed alone, NPIPE_REPEAT times.
test-integrity: build/stamp-package
	$(ENV) $(PY) -m pytest tests/integrity $(PYTEST_ARGS)

# The fuzzers, on their corpora and then for a moment (or FUZZ_SECONDS) on what they make of them.
FUZZ_SECONDS ?= $(if $(NPIPE_LONG),600,10)
test-fuzz: build/stamp-package
	scripts/build-fuzz.sh build/fuzz
	for name in ring rendezvous; do \
	    mkdir -p build/fuzz/$$name && build/fuzz/fuzz_$$name -max_len=400 -timeout=20 \
	        -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 \
	        build/fuzz/$$name tests/fuzz/corpus/$$name || exit 1; done
	$(ENV) $(PY) tests/fuzz/fuzz_handshake.py $(FUZZ_SECONDS)

# How one sleeps and is woken, searched through by spin.
test-model:
	tests/model/check.sh build/model

# The engine's C tests under memcheck.
test-valgrind: build/stamp-tools
	$(ENV) scripts/build-c.sh build/valgrind -Dtests=true -Dbuildtype=debugoptimized
	scripts/run-valgrind.sh build/valgrind

# The engine's C tests on a processor that orders memory weakly, by qemu's user mode.
test-aarch64: build/stamp-tools
	$(ENV) scripts/test-aarch64.sh build/aarch64

# The Python suites with the extension under the address sanitizer.
test-asan-python: build/stamp-package
	$(ENV) scripts/test-asan-python.sh build/asan $(PYTEST_ARGS)

# The package on CPython for Windows, under Wine: build/windows keeps all of it.
setup-windows: build/stamp-tools
	@$(PY) scripts/windows/setup.py

test-windows: build/stamp-tools
	PYTHON=$(PY) scripts/windows/test.sh $(PYTEST_ARGS)

# The sdist, and the wheels for Linux and Windows, in dist/, each installed where nothing else is and tried.
# WHEELS="--python 3.12 --target x86_64-linux-gnu --no-windows" for some of them.
wheels: build/stamp-release
	$(ENV) $(PY) scripts/release/wheels.py $(WHEELS)

bench: build/stamp-bench
	$(ENV) scripts/build-c.sh build/bench-c -Dbench=true
	mkdir -p build/bench && cp build/bench-c/bench/limit build/bench/limit
	$(ENV) $(PY) -m bench $(BENCH_ARGS)
	$(ENV) $(PY) -m bench.win32 $(BENCH_WIN32_ARGS)
	$(ENV) $(PY) -m bench.aio $(BENCH_AIO_ARGS)
	$(ENV) $(PY) -m bench.crowd_page $(BENCH_CROWDS_ARGS)
	$(ENV) $(PY) -m bench.goals
	$(ENV) $(PY) -m bench.plots

# The plots and the table of goals again, by the numbers that are there.
plots: build/stamp-bench
	$(ENV) $(PY) -m bench.goals
	$(ENV) $(PY) -m bench.plots

# The pictures in docs/images: those that are drawn, and those of npipe top.
pictures: build/stamp-package
	$(PY) -m scripts.pictures
	NPIPE_PICTURES=1 $(ENV) $(PY) -m pytest tests/cli/test_top_pictures.py -q

# The site in build/docs/html: docs/, and the reference from the sources. Warnings are errors.
SPHINX = $(ENV) $(PY) -m sphinx -n -d build/docs/doctrees
docs: build/stamp-docs
	$(SPHINX) -q -W --keep-going -b html docs build/docs/html
	@echo "The site is there: build/docs/html/index.html"

# The site's tests: links, samples, command lines, and its pages in a browser, with pictures in build/docs/pictures.
test-docs: docs
	$(ENV) $(PY) -m pytest tests/docs $(PYTEST_ARGS)

# Links to other places: needs the network, and those places.
linkcheck: build/stamp-docs
	$(SPHINX) -b linkcheck docs build/docs/links

clean:
	rm -rf build .venv

# ---- Set-up

# A step that another make takes meanwhile is waited for. The demonstration needs stamp-demo alone.

build/stamp-venv:
	@scripts/check-machine.sh "$(PYTHON)"
	@"$(PYTHON)" scripts/set_up.py venv $@

build/stamp-build: build/stamp-venv pyproject.toml
	@$(PY) scripts/set_up.py build $@ $^

build/stamp-workflows: build/stamp-tools
	$(PY) scripts/install-groups.py --each workflows
	touch $@

build/stamp-release: build/stamp-tools
	$(PY) scripts/install-groups.py release
	touch $@

build/stamp-tools: build/stamp-build
	@$(PY) scripts/set_up.py tools $@ $^

build/stamp-demo: build/stamp-build $(SOURCES)
	@$(PY) scripts/set_up.py demo $@ $^

build/stamp-npipe: build/stamp-build $(SOURCES)
	@$(PY) scripts/set_up.py npipe $@ $^

build/stamp-package: build/stamp-tools build/stamp-npipe
	@touch $@

build/stamp-docs: build/stamp-package
	$(PY) scripts/install-groups.py docs
	touch $@

build/stamp-bench: build/stamp-package
	$(PY) scripts/install-groups.py --each bench
	touch $@
