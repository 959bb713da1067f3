# README's two commands are `make demo` and `make test`; each sets itself up. `make help` prints what stands behind two
# marks here: `##@` a headline, and `##` a target and what it is for.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

SOURCES := pyproject.toml meson.build meson.options scripts/cythonize.py $(shell find src -name '*.py' \
    -o -name '*.pyi' -o -name '*.pyx' -o -name '*.px[di]' -o -name '*.[ch]' -o -name meson.build)
# Looked for when it is used: a copy for a build need not have them.
C_SOURCES = $(shell find src/npipe/engine tests/c tests/fuzz tests/windows bench -name '*.[ch]')
# The tools of the environment first: meson, ninja and cython are there.
ENV := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: test-all test-quick test-slow test-collect
.PHONY: demo demo-remote test lint format types test-c test-python conformance test-clients test-samba test-samba-long
.PHONY: test-aio test-sanitizers
.PHONY: setup-windows test-windows wheels bench plots pictures clean
.PHONY: test-pythons test-nogil test-faults test-integrity test-fuzz test-model test-valgrind test-aarch64
.PHONY: test-asan-python docs test-docs linkcheck help

##@ To begin with (make alone is make demo)
## demo: servers and clients show what pipes do
# Quickly compiled where nothing is yet (binding_optimization in meson.options); the tests compile it as it is shipped.
demo: $(if $(wildcard build/stamp-npipe),build/stamp-npipe,build/stamp-demo)
	@$(PY) -m npipe demo

## test: lint, types, the engine's C tests, the Python tests that are not slow
# The quick parts first; how far it is, and at the end what each took. mypy thinks on one processor meanwhile.
test: build/stamp-package
	@$(PY) scripts/run_parts.py lint types --beside test-collect test-c --then test-quick

## test-all: the same with the slow tests: what a change has to pass
test-all: build/stamp-package
	@$(PY) scripts/run_parts.py lint types --beside test-collect test-c --then test-python

## help: this list
help:
	@sed -n -e 's/^##@ \(.*\)/\n\1/p' -e 's/^## \([a-z0-9-]*\): \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

##@ What make test has, part by part
## lint: ruff, clang-format, codespell, widths of lines, links, layers
lint: build/stamp-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(PY) scripts/check_text.py
	$(PY) scripts/check_layers.py
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

## format: ruff's and clang-format's form for all sources
format: build/stamp-tools
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_SOURCES)

## types: mypy --strict, as on Linux and as on Windows
types: build/stamp-tools
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/windows/mypy.ini

## test-c: the engine's C tests
test-c: build/stamp-tools
	$(ENV) scripts/build-c.sh build/c -Dtests=true -Dwerror=true
	$(ENV) meson test -C build/c --print-errorlogs --num-processes 2

# Several tests at a time, WORKERS: most wait most of the time. WORKERS=0 for one after the other.
WORKERS ?= $(shell expr 2 '*' $$(nproc))
BESIDE := -n $(WORKERS) --dist worksteal

## test-collect: whether all Python tests can be found
# Whether all tests can be found. It leaves their compiled form for all workers, which would make it each for itself.
test-collect: build/stamp-package
	@$(PY) -m pytest -q --collect-only >build/log-collect.txt || { cat build/log-collect.txt; exit 1; }
	@tail -n 1 build/log-collect.txt

## test-python: all Python tests, or PYTEST_ARGS="tests/sync -k name"
test-python: build/stamp-package
	$(ENV) $(PY) -m pytest $(BESIDE) $(PYTEST_ARGS)

## test-quick: the Python tests that are not slow
test-quick: build/stamp-package
	$(ENV) $(PY) -m pytest -q $(BESIDE) -m "not slow" --durations=5 $(PYTEST_ARGS)

## test-slow: the slow ones alone
# What `make test` leaves out, a test on each processor, and one more for the time that some wait.
test-slow: build/stamp-package
	$(ENV) $(PY) -m pytest -n $(shell expr 1 + $$(nproc)) --dist worksteal -m slow $(PYTEST_ARGS)

## conformance: the recorded scenarios of Windows alone
conformance: build/stamp-package
	$(ENV) $(PY) -m pytest tests/conformance $(PYTEST_ARGS)

##@ More tests
## test-clients: programs for Windows from PyPI, run unmodified (network)
test-clients: build/stamp-package
	$(ENV) $(PY) -m pytest -n $(WORKERS) --dist loadfile tests/clients $(PYTEST_ARGS)

## test-samba: pipes behind a real smbd (network)
# Pipes behind a real smbd. Installs Debian's samba and other people's SMB clients where it may; says what is missing.
test-samba: build/stamp-package
	PYTHON=$(PY) scripts/test-samba.sh $(PYTEST_ARGS)

## test-samba-long: the same with another Debian's Samba (root, 600 MB)
# The same with the Samba of another Debian, in a tree of that (as root, 600 MB, some minutes the first time).
test-samba-long: build/stamp-package
	PYTHON=$(PY) scripts/test-samba-long.sh $(PYTEST_ARGS)

## demo-remote: a demonstration with a private smbd between client and server
demo-remote: build/stamp-package
	@$(ENV) $(PY) scripts/demo_remote.py

## test-aio: the faces for event loops alone
test-aio: build/stamp-package
	$(ENV) $(PY) -m pytest tests/aio $(PYTEST_ARGS)

## test-pythons: each CPython from 3.11 to 3.14 that is here
# The tests that an interpreter's version has a bearing on, on each CPython from 3.11 to 3.14 that this machine has
# beside that of .venv, or on PYTHONS="PATH...". PYTEST_ARGS=tests for all of test-python.
test-pythons: build/stamp-venv
	scripts/test-pythons.sh build/pythons $(PYTEST_ARGS)

## test-nogil: a CPython without the lock, and ThreadSanitizer
# On a CPython without the lock, and its threads under ThreadSanitizer: NOGIL_PYTHON=PATH, or one that is here, or one
# that `scripts/nogil-python.sh build/nogil --build` has made. PYTEST_ARGS=tests for all of test-python.
test-nogil: build/stamp-venv
	scripts/test-nogil.sh build/nogil $(PYTEST_ARGS)

## test-sanitizers: the C tests under the address, undefined-behaviour and thread sanitizers
test-sanitizers: build/stamp-tools
	$(ENV) scripts/build-c.sh build/san-address -Dtests=true -Db_sanitize=address,undefined -Dbuildtype=debugoptimized
	$(ENV) meson test -C build/san-address --print-errorlogs --num-processes 1 --timeout-multiplier 5
	$(ENV) scripts/build-c.sh build/san-thread -Dtests=true -Db_sanitize=thread -Dbuildtype=debugoptimized
	$(ENV) meson test -C build/san-thread --print-errorlogs --num-processes 1 --timeout-multiplier 5

##@ Trust and faults (docs/reliability.md); NPIPE_LONG=1 is the long form of each

## test-faults: attackers, killers, races and loads
test-faults: build/stamp-package
	$(ENV) $(PY) -m pytest tests/faults $(PYTEST_ARGS)

## test-integrity: numbered bytes through every pair of faces
# Numbered bytes through every pair of faces. NPIPE_SEED=n for the plan of that seed alone, NPIPE_REPEAT times.
test-integrity: build/stamp-package
	$(ENV) $(PY) -m pytest tests/integrity $(PYTEST_ARGS)

# The fuzzers, on their corpora and then for a moment (or FUZZ_SECONDS) on what they make of them.
FUZZ_SECONDS ?= $(if $(NPIPE_LONG),600,10)
## test-fuzz: the fuzzers, FUZZ_SECONDS each
test-fuzz: build/stamp-package
	scripts/build-fuzz.sh build/fuzz
	for name in ring rendezvous; do \
	    mkdir -p build/fuzz/$$name && build/fuzz/fuzz_$$name -max_len=400 -timeout=20 \
	        -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 \
	        build/fuzz/$$name tests/fuzz/corpus/$$name || exit 1; done
	$(ENV) $(PY) tests/fuzz/fuzz_handshake.py $(FUZZ_SECONDS)

## test-model: how one sleeps and is woken, searched through by spin
test-model:
	tests/model/check.sh build/model

## test-valgrind: the C tests under memcheck
test-valgrind: build/stamp-tools
	$(ENV) scripts/build-c.sh build/valgrind -Dtests=true -Dbuildtype=debugoptimized
	scripts/run-valgrind.sh build/valgrind

## test-aarch64: the C tests on a weakly ordered processor, by qemu
test-aarch64: build/stamp-tools
	$(ENV) scripts/test-aarch64.sh build/aarch64

## test-asan-python: the Python tests, the extension under the address sanitizer
test-asan-python: build/stamp-package
	$(ENV) scripts/test-asan-python.sh build/asan $(PYTEST_ARGS)

##@ Windows, releases, measurements
## setup-windows: CPython for Windows under Wine, for test-windows
# The package on CPython for Windows, under Wine: build/windows keeps all of it.
setup-windows: build/stamp-tools
	@$(PY) scripts/windows/setup.py

## test-windows: the tests on it
test-windows: build/stamp-tools
	PYTHON=$(PY) scripts/windows/test.sh $(PYTEST_ARGS)

## wheels: the sdist and all wheels in dist/, each installed and tried
# The sdist, and the wheels for Linux and Windows, in dist/, each installed where nothing else is and tried.
# WHEELS="--python 3.12 --target x86_64-linux-gnu --no-windows" for some of them.
wheels: build/stamp-release
	$(ENV) $(PY) scripts/release/wheels.py $(WHEELS)

## bench: all measurements beside the peers (a quiet machine, an hour)
bench: build/stamp-bench
	$(ENV) scripts/build-c.sh build/bench-c -Dbench=true
	mkdir -p build/bench && cp build/bench-c/bench/limit build/bench/limit
	$(ENV) $(PY) -m bench $(BENCH_ARGS)
	$(ENV) $(PY) -m bench.win32 $(BENCH_WIN32_ARGS)
	$(ENV) $(PY) -m bench.aio $(BENCH_AIO_ARGS)
	$(ENV) $(PY) -m bench.crowd_page $(BENCH_CROWDS_ARGS)
	$(ENV) $(PY) -m bench.goals
	$(ENV) $(PY) -m bench.plots

## plots: their plots again, without measuring
# The plots and the table of goals again, by the numbers that are there.
plots: build/stamp-bench
	$(ENV) $(PY) -m bench.goals
	$(ENV) $(PY) -m bench.plots

## pictures: the pictures in docs/images again
# The pictures in docs/images: those that are drawn, and those of npipe top.
pictures: build/stamp-package
	$(PY) -m scripts.pictures
	NPIPE_PICTURES=1 $(ENV) $(PY) -m pytest tests/cli/test_top_pictures.py -q

# The site in build/docs/html: docs/, and the reference from the sources. Warnings are errors.
SPHINX = $(ENV) $(PY) -m sphinx -n -d build/docs/doctrees
##@ Documentation
## docs: the site, in build/docs/html
docs: build/stamp-docs
	$(SPHINX) -q -W --keep-going -b html docs build/docs/html
	@echo "The site is there: build/docs/html/index.html"

## test-docs: the site and its tests, in a browser too
# The site's tests: links, samples, command lines, and its pages in a browser, with pictures in build/docs/pictures.
test-docs: docs
	$(ENV) $(PY) -m pytest tests/docs $(PYTEST_ARGS)

## linkcheck: links to other places (network)
# Links to other places: needs the network, and those places.
linkcheck: build/stamp-docs
	$(SPHINX) -b linkcheck docs build/docs/links

##@ And last
## clean: remove build and .venv
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
