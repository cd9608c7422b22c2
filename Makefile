# Everything here wraps `python -m cnncourse ...`; the only thing make adds is the environment in .venv.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
JOBS    ?= 1
PRESET  ?= default
LESSONS ?=
STYLE   ?=
PY      := .venv/bin/python
COURSE  := $(PY) -m cnncourse
STAMP   := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help figures figures-check test lint sync store claims doctor lab bench lock clean

help:  ## this list
	@echo "cnncourse: lectures that run"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo 'options: JOBS=2  LESSONS="04 14"  PRESET=full  STYLE=my.mplstyle  PYTHON=python3.11'

figures: $(STAMP)  ## run the lessons whose inputs changed and regenerate their figures
	@$(COURSE) figures --jobs $(JOBS) --preset $(PRESET) $(if $(STYLE),--style $(STYLE)) $(LESSONS)

figures-check: $(STAMP)  ## regenerate every figure elsewhere and compare with the published ones
	@$(COURSE) figures-check --jobs $(JOBS) $(LESSONS)

test: $(STAMP)  ## unit tests, anatomy, and every lesson's stored numbers
	@$(COURSE) test

lint: $(STAMP)  ## anatomy of the lessons, and the package's code style
	@$(COURSE) check $(LESSONS)
	@$(PY) -m ruff check .

sync: $(STAMP)  ## make the notebooks and their text twins equal again
	@$(COURSE) sync

store: $(STAMP)  ## execute LESSONS at their default parameters and store the outputs
	@$(if $(LESSONS),,echo 'which lessons? make store LESSONS="04 14"'; exit 2)
	@$(foreach lesson,$(LESSONS),$(COURSE) store $(lesson) &&) true

claims: $(STAMP)  ## what the lessons claim, what was measured, and what is not covered yet
	@$(COURSE) claims

doctor: $(STAMP)  ## is this machine ready? what to do if not
	@$(COURSE) doctor

lab: $(STAMP)  ## open JupyterLab on the lessons
	@$(COURSE) lab

bench: $(STAMP)  ## speed and memory against peers, as ratios in one run
	@$(COURSE) bench

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@echo "installing what requirements.lock names into .venv (once, about 6 GB with torch; needs the network)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --disable-pip-version-check --require-hashes -r requirements.lock \
	  || { echo "the installation did not finish: check the network and the disk, then run the same command again"; exit 1; }
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lock:  ## resolve pyproject.toml anew into requirements.lock (for maintainers; needs uv)
	@UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  pyproject.toml --extra test --upgrade --output-file requirements.lock

clean:  ## remove what can be made again: build/, but not .venv/ or runs/
	@rm -rf build
