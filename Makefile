# Every target makes the environment that it needs; only python3 and make have to be there.
PYTHON ?= python3
VENV ?= .venv
# Extras of pyproject.toml to install; on a machine with an NVIDIA GPU: EXTRAS=dev,cuda
EXTRAS ?= dev
# Test processes; 0 runs all in one.
WORKERS ?= 2
# COVERAGE=yes: the tests also measure what they cover, which takes them a third longer.
COVERAGE ?=
CONFIG ?= configs/synthetic.py
WORKDIR ?= runs/synthetic

bin := $(VENV)/bin
# One for each set of extras: other extras are added to an environment that is there.
installed := $(VENV)/.installed-$(EXTRAS)

.DEFAULT_GOAL := help
.PHONY: help train test lint clean

help:
	@echo "make train   train the standard and the adversarial arm on made-up images, compare them"
	@echo "             (CONFIG=$(CONFIG) WORKDIR=$(WORKDIR))"
	@echo "make test    run the tests (WORKERS=$(WORKERS); COVERAGE=yes measures what they cover)"
	@echo "make lint    ruff check, ruff format --check, mypy"
	@echo "make clean   remove the environment and the tools' caches; runs/ stays"
	@echo "The first call installs everything in $(VENV) with PYTHON=$(PYTHON), EXTRAS=$(EXTRAS)."

train: $(installed)
	$(bin)/segadv_jax compare --config=$(CONFIG) --workdir=$(WORKDIR)

# Large pages for the arrays of a training step: a tenth faster on a CPU (docs/benchmarks.md). That
# they are kept, as by trainings, is not for a process that makes hundreds of networks.
test: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
test: $(installed)
	$(bin)/python -m pytest -n $(WORKERS) $(if $(COVERAGE),--cov=segadv_jax)

lint: $(installed)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

# Debian and Ubuntu ship python3 without ensurepip, and then "venv" imports but cannot work.
$(installed): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "error: '$(PYTHON)' not found; install Python 3.11 or later, or name one:" \
	    "make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or later is needed, '$(PYTHON)' is" \
	    "$$($(PYTHON) -V 2>&1); name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: '$(PYTHON)' lacks the modules venv and ensurepip; on Debian and Ubuntu" \
	    "run: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (about 3 GB on disk, a few minutes) ..."
	$(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

clean:
	rm -rf $(VENV) build .coverage* .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
