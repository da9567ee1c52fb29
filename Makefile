# `make install`, then `make lab`. Windows, and macOS without make: README.md has the same steps.

PYTHON ?= python3
TORCH ?=
LAB_ARGS ?=
TEST_ARGS ?=
LOCK_ARGS ?=

# python -m …, not the scripts beside it: those break where the path is long or has spaces
VENV := .venv/bin/python
START := start.ipynb
# what the requirements allow, in the versions that the course was tested with
PIP_INSTALL := $(VENV) -m pip install --disable-pip-version-check -c requirements.lock.txt
PYTEST := $(VENV) -m pytest -n 2 --dist loadfile --max-worker-restart 0
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help install lab fetch homework slides test test-all slow test-matrix bench notebooks claims lock

help:
	@echo "make install   make .venv and install the course; TORCH=cpu, cu130, auto chooses torch's build,"
	@echo "               PYTHON=python3.12 the Python"
	@echo "make lab       install, fetch the data, open your copy of the lessons in JupyterLab;"
	@echo "               LAB_ARGS=--no-browser on a server"
	@echo "make fetch     install, fetch the data"
	@echo "make homework  for instructors: the notebooks of all homework to hand out, in grading/release/"
	@echo "make slides    for instructors: the lessons' slides, in build/slides/"
	@echo "make test      install, fetch the data, run the tests; TEST_ARGS=… goes to pytest"
	@echo "make test-all  what takes longer: a class, a server, browsers, the lessons in the setting farthest from that of make test"
	@echo "make bench     install, fetch the data, measure speed against peers"
	@echo "make notebooks run the lessons that changed and keep their outputs; ALL=--all runs every one"
	@echo "make claims    write the claims of all lessons, with their verdicts, into docs/claims.md and README.md"
	@echo "make lock      note what the requirements allow in requirements.lock.txt; LOCK_ARGS=--upgrade: the newest"
	@echo "make test-matrix   the lessons in all six settings: threads × CPU instructions"

install: .venv/installed
	@:

# default_url: the address printed for a browser elsewhere opens the start page too
lab: fetch
	$(VENV) -m course_lib workspace
	$(VENV) -m jupyterlab --ip=127.0.0.1 $(ROOT) --LabApp.default_url=/lab/tree/$(START) \
	  $(LAB_ARGS) "$${COURSE_WORKSPACE:-workspace}/$(START)"

fetch: install
	$(VENV) -m course_lib fetch

homework: install
	$(VENV) -m course_lib homework

slides: fetch
	$(VENV) -m course_lib slides

test: .venv/installed-test fetch
	OMP_NUM_THREADS=1 $(PYTEST) $(TEST_ARGS)

bench: .venv/installed-test fetch
	$(VENV) -m tests.benchmarks

# ALL=--all runs those, too, whose code is as it was
notebooks: .venv/installed-test fetch
	$(VENV) -m tests.notebooks.execute $(ALL)
	$(VENV) -m course_lib.classroom.ledger

claims: install
	$(VENV) -m course_lib.classroom.ledger

# What takes long by nature, and the learner's copies of the lessons in the setting that is farthest from that of
# `make test`: two threads and the oldest instructions
test-all: slow copies-2-default

slow: .venv/installed-test fetch
	OMP_NUM_THREADS=1 $(PYTEST) -m slow $(TEST_ARGS)

# The stored outputs must pass however a machine computes: threads × CPU instructions. native: the machine's best.
test-matrix: $(foreach threads,1 2,$(foreach cpu,default avx2 native,pass-$(threads)-$(cpu)))

default := ATEN_CPU_CAPABILITY=default
avx2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
in_setting = OMP_NUM_THREADS=$(firstword $(subst -, ,$*)) OMP_WAIT_POLICY=PASSIVE $($(lastword $(subst -, ,$*)))
pass-%: .venv/installed-test fetch
	@echo "== the lessons with $(subst -, threads and ,$*) instructions"
	$(in_setting) $(PYTEST) notebooks $(TEST_ARGS)

copies-%: .venv/installed-test fetch
	@echo "== the learner's copies with $(subst -, threads and ,$*) instructions"
	$(VENV) -m tests.notebooks.copies
	COURSE_WORKSPACE="$(CURDIR)/build/copies" $(in_setting) $(PYTEST) build/copies $(TEST_ARGS)

# A stamp is touched last, so an install that failed or was stopped is done again.
.venv/installed: requirements.txt requirements.lock.txt pyproject.toml | .venv/bin/pip
	@if [ -z "$(TORCH)" ] && [ "$$(uname)" = Linux ] && [ ! -e /proc/driver/nvidia ] \
	  && ! command -v nvidia-smi >/dev/null && ! $(VENV) -m pip show -q torch 2>/dev/null; then \
	  echo "No NVIDIA GPU here: if the torch that follows is a CUDA build of several GB, stop, and run \`make install TORCH=cpu\`."; \
	fi
	$(PIP_INSTALL) -r requirements.txt -e .
	@touch $@

.venv/installed-test: .venv/installed requirements-test.txt
	$(PIP_INSTALL) -r requirements-test.txt
	@touch $@

# pip comes last into a new environment: without it, it is not whole
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "The course needs Python 3.11 or newer, and $(PYTHON) is not: name another, \`make install PYTHON=python3.12\`."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module: on Debian and Ubuntu, \`apt-get install python3-venv\`, then run this again."; exit 1; }
	$(PYTHON) -m venv .venv

# who names a Python means that one, not the one that made .venv
ifneq ($(origin PYTHON),file)
.PHONY: same-python
.venv/bin/pip: | same-python
.venv/installed: | same-python
same-python:
	@version='import platform; print(platform.python_version())'; \
	asked=$$($(PYTHON) -c "$$version") || { \
	  echo "PYTHON=$(PYTHON) does not run: name a Python 3.11 or newer, or leave PYTHON out."; exit 1; }; \
	there=$$($(VENV) -c "$$version" 2>/dev/null || echo "that is gone"); \
	[ ! -e .venv ] || [ "$$there" = "$$asked" ] || { \
	  echo "PYTHON is Python $$asked, and .venv was made by Python $$there: delete .venv, or leave PYTHON out."; exit 1; }
endif

# universal: one file for every system and every Python that the course runs on
lock: .venv/bin/uv
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url \
	  --custom-compile-command "make lock" $(LOCK_ARGS) requirements-test.txt -o requirements.lock.txt

.venv/bin/uv: | .venv/bin/pip
	$(VENV) -m pip install --disable-pip-version-check --quiet 'uv>=0.9'

# uv knows where PyTorch keeps its builds; all but torch itself still comes from pip's own registry
ifneq ($(TORCH),)
.venv/installed: .venv/torch-$(TORCH)
.venv/torch-$(TORCH): requirements.lock.txt | .venv/bin/uv
	@echo "torch, the $(TORCH) build:"
	@.venv/bin/uv pip install --python $(VENV) --reinstall --no-deps \
	  --torch-backend=$(TORCH) '$(shell grep '^torch==' requirements.lock.txt)' || { \
	  echo "torch for TORCH=$(TORCH) could not be installed (see above): without TORCH, \`make install\` takes pip's own build."; exit 1; }
	@rm -f .venv/torch-*
	@touch $@
endif
