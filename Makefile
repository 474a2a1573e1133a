# Every target sets up what it needs by itself, once: the environment in .venv, and real programs
# in .cache/programs. `make demo` needs the least; `make guests` alone needs a compiler for wasm.

PYTHON := .venv/bin/python
RUN_ENV := .venv/.installed-run
DEV_ENV := .venv/.installed-dev
DOCS_ENV := .venv/.installed-docs
GUESTS_ENV := .venv/.installed-guests
BENCH_ENV := .venv/.installed-bench
WORKERS ?= 3
# The tests of the modules that a compiled build changes: the format, the log and compaction.
COMPILED_TESTS := tests/format tests/log tests/crash tests/security tests/pages tests/operations \
	tests/replay tests/compaction tests/adapters

.PHONY: demo test test-compiled deep campaign check docs man bench guests wheels clean

demo: $(RUN_ENV) ## show it: record a real program, kill it, resume it
	$(PYTHON) tools/programs.py quickjs
	$(PYTHON) demo/run.py

test: $(DEV_ENV) ## the tests that take minutes at most
	tools/system.sh
	$(PYTHON) tools/programs.py quickjs
	$(PYTHON) -m pytest -n $(WORKERS) -m "not deep"

test-compiled: $(DEV_ENV) ## the same tests on the compiled build
	tools/system.sh
	$(PYTHON) tools/programs.py quickjs
	$(PYTHON) tools/compiled.py -n $(WORKERS) -m "not deep"

deep: $(GUESTS_ENV) ## campaigns of a few seconds each, large guests, and the compiled build
	tools/system.sh
	$(PYTHON) tools/programs.py
	$(PYTHON) -m pytest -n $(WORKERS) -m deep --hypothesis-profile=deep
	$(PYTHON) tools/compiled.py --if-possible -n $(WORKERS) -m "not deep" \
		-k "not kill and not guest" $(COMPILED_TESTS)

campaign: $(GUESTS_ENV) ## the same campaigns at full length, with new examples: takes hours
	tools/system.sh
	$(PYTHON) tools/programs.py
	$(PYTHON) -m pytest -n $(WORKERS) -m deep --hypothesis-profile=campaign --campaign-seconds=0

check: $(DOCS_ENV) ## style, types, prose, lengths, the order of the rooms, generated files, and the site
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo
	$(PYTHON) spec/generate.py --check
	$(PYTHON) tools/guests.py --check
	$(PYTHON) tools/prose.py
	$(PYTHON) tools/functions.py
	$(PYTHON) tools/rooms.py --check
	$(MAKE) --no-print-directory docs

docs: $(DOCS_ENV) ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

man: $(RUN_ENV) ## write the man pages to build/man
	$(PYTHON) tools/command_pages.py build/man

bench: $(BENCH_ENV) ## what it costs
	$(PYTHON) tools/programs.py
	$(PYTHON) benchmarks/run.py

guests: $(GUESTS_ENV) ## build fixtures/guests/*.wasm again
	$(PYTHON) tools/guests.py

wheels: $(DEV_ENV) ## build the sdist and both wheels into dist/, and try each of them
	$(PYTHON) tools/wheels.py

clean: ## remove everything that was made
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -rf build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_ENV): pyproject.toml setup.py tools/setup.sh
	tools/setup.sh engine
	touch $@

$(DEV_ENV): pyproject.toml setup.py tools/setup.sh
	tools/setup.sh engine,dev
	touch $@ $(RUN_ENV)

$(DOCS_ENV): $(DEV_ENV)
	tools/setup.sh engine,dev,docs
	touch $@

$(BENCH_ENV): $(DEV_ENV)
	tools/setup.sh engine,dev,bench
	touch $@

$(GUESTS_ENV): $(DEV_ENV)
	tools/setup.sh engine,dev,guests
	touch $@
