# Every target makes what it needs: a virtual environment in .venv, the packages, the native part.
# PYTHON=... names the interpreter to start from, CXX=... the compiler, DEMO_ARGS=... and BENCH_ARGS=... are passed on.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# The tests start hundreds of processes: without files of bytecode each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
# uv's cache of a local project looks at pyproject.toml only, so it would miss a change in native/.
INSTALL = $(UV) pip install --quiet --python $(BIN)/python
REBUILD = --reinstall-package nybble --refresh-package nybble
else
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
REBUILD =
endif

NATIVE := CMakeLists.txt $(shell find native -type f)
NATIVE_CODE := $(shell find native tests -name '*.cpp' -o -name '*.h')
PYTHON_CODE := $(wildcard src tests benchmarks)

SANITIZE_DIR := build/sanitize
# Where the engine is exercised; a pattern that matches nothing is an error, not a pass.
SANITIZE_TESTS ?= tests/engine tests/backends tests/graph/test_outside_operation.py
SANITIZE_ARGS ?=
EMULATE_DIR := build/emulated
# Every kernel, on small layers.
EMULATE_TESTS ?= $(addprefix tests/engine/test_,rows.py pool_kernels.py move_kernels.py point_kernels.py engine_table.py::test_every_code_of_every_table engine_mul.py)
EMULATE_ARGS ?=
# Tests in place of those that tests/cross/run.sh names; it reads more variables of this kind.
CROSS_TESTS ?=
# Inputs for each fuzz target; all targets by default.
FUZZ_INPUTS ?= 20000
FUZZ_TARGETS ?=
# Where tests record which kernels they compared with the reference.
ROWS := $(CURDIR)/build/rows
# JOBS=2 runs two parts of `make test` at a time. The output of each part is then printed when it has ended.
JOBS ?= 1
# Started in this order.
TEST_PARTS ?= lint types pytest sanitize emulated
PARALLEL = $(if $(filter-out 1,$(JOBS)),PARTS=1 --jobs=$(JOBS) --output-sync=target)
# Two installations at a time break an environment, so only the parts of `make test` run at a time, once everything
# that they need is installed; --jobs on the command line changes nothing.
ifndef PARTS
.NOTPARALLEL:
endif
# In continuous integration no test is skipped for a missing peer, or for want of torch or LoadGen.
TEST_PACKAGES := $(addprefix $(STAMPS)/,dev demo report $(if $(CI),docs batch bench mlperf quantize ray serve test-gpu test-networks test-serve test-tasks text video wheels))
DEMO_ARGS ?=
BENCH_ARGS ?=
# Folders and files whose tests are quick, but for those marked slow.
QUICK_ENGINE := rows pool_kernels forced_rows choices engine_api native_structure native_arguments arena order
QUICK_TESTS ?= tests/test_*.py tests/graph tests/backends tests/images $(QUICK_ENGINE:%=tests/engine/test_%.py)
COVERAGE_TESTS ?= -m 'not slow' $(QUICK_TESTS)
TEST_ARGS ?=

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(STAMPS)/demo ## classify a few photos, measure speed, write demo.html
	@$(BIN)/nybble demo $(DEMO_ARGS)

.PHONY: test
test: $(TEST_PACKAGES) ## lint, types, tests, the engine's tests under sanitizers, kernels emulated; which kernels ran
	@rm -rf $(ROWS)
	@NYBBLE_ROWS=$(ROWS) $(MAKE) --no-print-directory $(PARALLEL) $(TEST_PARTS)
	@$(BIN)/python tests/row_report.py $(ROWS)

.PHONY: bench
bench: $(STAMPS)/bench ## the same work on this engine and on its peers
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

.PHONY: lint
lint: $(STAMPS)/dev ## ruff and clang-format, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(NATIVE_CODE)

.PHONY: format
format: $(STAMPS)/dev ## put Python and C++ into the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(NATIVE_CODE)

.PHONY: types
types: $(STAMPS)/dev ## mypy
	$(BIN)/mypy

.PHONY: check
check: lint types $(STAMPS)/demo $(STAMPS)/report ## lint, types and the quick tests, in under three minutes
	$(BIN)/python -m pytest -q -m 'not slow' $(QUICK_TESTS)

.PHONY: coverage
# Measuring every line takes half as long again, so the whole suite is not measured with every run.
coverage: $(addprefix $(STAMPS)/,dev demo report) ## lines of each package that the quick tests run; COVERAGE_TESTS=tests: all tests
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest -q $(COVERAGE_TESTS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python tools/coverage_of_packages.py

.PHONY: pytest
pytest: $(TEST_PACKAGES) ## the tests alone
	$(BIN)/python -m pytest $(TEST_ARGS)

.PHONY: sanitize
sanitize: $(STAMPS)/dev $(STAMPS)/demo ## the engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer, its threads under ThreadSanitizer
	@PYTHON='$(BIN)/python' bash tests/threads/run.sh
	@INSTALL='$(INSTALL) $(REBUILD)' DIR='$(SANITIZE_DIR)' PYTHON='$(BIN)/python' bash tests/sanitize/run.sh $(SANITIZE_TESTS) $(SANITIZE_ARGS)

.PHONY: emulated
emulated: $(STAMPS)/dev ## every kernel of x86, emulated by SIMDe; NYBBLE_EMULATE=avx512vnni: only this instruction set
	@INSTALL='$(INSTALL) $(REBUILD)' DIR='$(EMULATE_DIR)' PYTHON='$(BIN)/python' bash tests/emulated/run.sh $(EMULATE_TESTS) $(EMULATE_ARGS)

.PHONY: cross
cross: $(STAMPS)/build ## the tests of the kernels on aarch64, emulated by qemu-user; skipped where the tools are absent
	@INSTALL='$(INSTALL)' bash tests/cross/run.sh $(CROSS_TESTS)

.PHONY: fuzz
fuzz: $(addprefix $(STAMPS)/,dev demo batch mlperf quantize serve test-serve fuzz) ## fuzz what is read from outside; FUZZ_TARGETS=, FUZZ_INPUTS=
	@PYTHON='$(BIN)/python' INSTALL='$(INSTALL) $(REBUILD)' bash tests/fuzz/run.sh $(FUZZ_INPUTS) $(FUZZ_TARGETS)

.PHONY: gpu-proof
gpu-proof: $(addprefix $(STAMPS)/,dev test-gpu) ## more checks of the GPU kernels, without a GPU: all mutants, a photo as PTX, a model of the time
	$(BIN)/python -m pytest -q tests/gpu/proof_mutants.py tests/gpu/proof_photo.py tests/gpu/proof_model.py

.PHONY: docs
docs: $(STAMPS)/docs ## the documentation site in build/docs; warnings, such as a broken link, are errors
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/docs
	@echo build/docs/index.html

.PHONY: wheels
wheels: $(STAMPS)/wheels $(STAMPS)/dev ## the sdist, and wheels for x86-64 and aarch64 that fit any Linux, in dist/; installs and tries each
	@INSTALL='$(INSTALL)' bash tests/wheels/run.sh dist all

.PHONY: packages
packages: $(STAMPS)/wheels $(STAMPS)/dev ## two of these wheels, in build/packages; a part of continuous integration
	@INSTALL='$(INSTALL)' bash tests/wheels/run.sh build/packages

.PHONY: wheel
wheel: $(STAMPS)/build ## a wheel for this machine in dist/
ifdef UV
	$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist
else
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
endif
	@ls dist/*.whl

.PHONY: proto
proto: $(STAMPS)/test-serve ## generate the gRPC messages from inference.proto
	$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=src src/nybble/serve/rpc/inference.proto

.PHONY: stubs
stubs: $(STAMPS)/native ## generate the types of the native modules, src/nybble/_*.pyi
	$(BIN)/python tools/stubs.py src/nybble

.PHONY: clean
clean: ## remove everything that was built, .venv included
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMPS)/venv:
	@if [ -n "$(UV)" ]; then \
	  if python="$$(PYTHON='$(PYTHON)' bash tools/find-python.sh 2>/dev/null)"; then \
	    "$(UV)" venv --quiet --clear --python "$$python" $(VENV); \
	  else \
	    "$(UV)" venv --quiet --clear --python-preference only-managed --python '>=3.11' $(VENV); \
	  fi; \
	else \
	  python="$$(PYTHON='$(PYTHON)' bash tools/find-python.sh)"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@mkdir -p $(STAMPS)
	@touch $@

# What the build needs is installed beside the package, not in isolation, so that a change in one C++ file compiles one file.
$(STAMPS)/build: pyproject.toml $(STAMPS)/venv
	@echo 'installing what the build needs'
	@$(INSTALL) cmake ninja $$($(BIN)/python tools/requirements.py build)
	@touch $@

$(STAMPS)/native: $(NATIVE) $(STAMPS)/build
	@for compiler in $(if $(filter-out default,$(origin CXX)),'$(CXX)',c++ g++ clang++); do \
	  if command -v $${compiler%% *} >/dev/null; then found=1; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo 'nybble: no C++ compiler found. Install g++ or clang (on Debian and Ubuntu: apt-get install g++), or set CXX.' >&2; exit 1; \
	fi
	@echo 'building the native part'
	@$(INSTALL) $(REBUILD) --no-build-isolation --editable .
	@touch $@

# Reinstalling an editable package with unchanged sources is quick; what matters here are the extra packages.
define extra
$(STAMPS)/$(1): pyproject.toml $(STAMPS)/native
	@echo 'installing what $(1) needs'
	@$$(INSTALL) $$$$($(BIN)/python tools/requirements.py $(1))
	@touch $$@
endef
$(foreach name,batch bench demo dev docs fuzz mlperf quantize ray report serve test-gpu test-networks test-serve test-tasks text video wheels,$(eval $(call extra,$(name))))
