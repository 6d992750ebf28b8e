# `make` explains itself. Every target installs what it needs first, into .venv.

PYTHON = python3
DATA =
OUT =
GENERATOR =
CONFIG = lightning_configs/shapes.yaml
PROMPT =
PROMPTS =
ARGS =

PY = .venv/bin/python
INSTALLED = .venv/.installed

# Links and names must be right (strict: mkdocs.yml). The variable: no advertisement for other programs.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

# Models as small as those of the tests are no faster on several threads, and many times slower where cores are shared.
THREADS = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}

# After ARGS, so that it wins over a --config there.
WITH_GENERATOR = $(if $(GENERATOR),--generator "$$GENERATOR")

# What `make train` exported, once it is there; before ARGS, which may name another.
WITH_CLASSIFIER = $(if $(wildcard runs/classifier/config.json),--classifier runs/classifier)

# Values given on the command line reach the shell as environment variables: "$$PROMPT" may hold any quotes.
export DATA GENERATOR PROMPT PROMPTS

.DEFAULT_GOAL := help
.PHONY: help setup demo world test lint docs probe invert train sample evaluate report app bench

# What a target cannot do without is asked for before anything is installed (but not under `make -n`, nor for ARGS=--help).
needs-invert = DATA
needs-probe = $(if $(PROMPTS),,DATA)
needs-sample = PROMPT
example-DATA = DATA=manifest.jsonl
example-PROMPT = PROMPT="a red circle to the left of a blue square"
ifeq (,$(findstring n,$(filter-out %=% --%,$(firstword -$(MAKEFLAGS))))$(findstring --help,$(ARGS)))
$(foreach goal,$(MAKECMDGOALS),$(foreach name,$(needs-$(goal)),$(if $($(name)),,\
  $(error $(name)= is missing: make $(goal) $(example-$(name))))))
endif

help:  ## this text
	@echo "CVG: compositional video guidance"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables:"
	@echo "  DATA=       manifest of videos (.jsonl) for invert and probe"
	@echo "  OUT=        where results go (default: a folder under runs/)"
	@echo "  GENERATOR=  text-to-video model: a folder or Hub id (default: what ARGS or the classifier names, else shapes-wan)"
	@echo "  CONFIG=     training configurations, each laid over those before it (default: $(CONFIG))"
	@echo "  PROMPT=     text prompt for sample"
	@echo "  PROMPTS=    file of prompts for probe, in the place of DATA: what rules are to read"
	@echo "  ARGS=       more options for the command (ARGS=--help lists them)"
	@echo "  PYTHON=     the Python (3.11 or newer) that .venv is made with (default: python3)"

# Compiled is what commands import, a few thousand of 20,000 files. Here and not when they first are imported: where the
# environment forbids that (PYTHONDONTWRITEBYTECODE, as in many containers), each command would take half a minute more.
setup: $(INSTALLED)  ## install everything into .venv (quick when nothing changed)

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; give PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is" \
	  "$$($(PYTHON) -V 2>&1), CVG needs 3.11 or newer; give PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv module;" \
	  "install it (Debian, Ubuntu: apt install python3-venv) or give PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[app,dev,docs,lora,parquet,quantised,remote]'
	PYTHONDONTWRITEBYTECODE= $(PY) -c 'import cvg.app, cvg.evaluate, cvg.train, data_prep.invert'
	@touch $@

demo: setup  ## the whole method on the shipped small models, in minutes
	$(PY) -m data_prep.demo --out "$(or $(OUT),runs/demo)" $(ARGS)

world: setup  ## free prompts to a judged evaluation, on tiny random models, in minutes
	$(THREADS) $(PY) -m data_prep.world --out "$(or $(OUT),runs/world)" $(ARGS)

test: setup  ## fast tests on all cores (ARGS="-m slow" for the slow ones, one after the other)
	$(THREADS) $(PY) -m pytest $(or $(ARGS),-n auto --dist worksteal)

lint: setup  ## ruff, mypy, and the site, in which no link may be dead
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy cvg data_prep benchmarks
	$(MKDOCS) --quiet

docs: setup  ## the documentation as a site: runs/site/index.html
	$(MKDOCS)

probe: setup  ## which steps, layers and heads to tap: DATA=manifest.jsonl; for rules, that have no data: PROMPTS=prompts.txt
	$(PY) $(if $(PROMPTS),-m data_prep.probe_rules --prompts_file "$$PROMPTS" --out "$(or $(OUT),runs/probe-rules)",\
	  -m data_prep.probe --data "$$DATA" --out "$(or $(OUT),runs/probe)") $(ARGS) $(WITH_GENERATOR)

# Two numbers of threads give two kinds of last digits; one gives the same bytes on any number of processes.
invert: export OMP_NUM_THREADS ?= 1
invert: setup  ## videos -> training shards: DATA=manifest.jsonl [OUT=runs/shards|s3://bucket/folder] [ARGS="--devices 8 --num_nodes 4"]
	$(PY) -m data_prep.invert --data "$$DATA" --out "$(or $(OUT),runs/shards)" $(ARGS) $(WITH_GENERATOR)

train: setup  ## runs/shards -> classifier: [CONFIG="..."] [OUT=runs/classifier]
	$(PY) -m cvg.train fit $(CONFIG:%=--config "%") --export "$(or $(OUT),runs/classifier)" $(ARGS)

sample: setup  ## prompt -> guided video: PROMPT="...", by runs/classifier where it is there, else by the shipped one
	$(PY) -m cvg.sample --prompt "$$PROMPT" --out "$(or $(OUT),runs/sample)" $(WITH_CLASSIFIER) $(ARGS) $(WITH_GENERATOR)

evaluate: setup  ## composition accuracy, guided and unguided; the same classifier
	$(PY) -m cvg.evaluate --suite shapes --out "$(or $(OUT),runs/evaluation.json)" $(WITH_CLASSIFIER) $(ARGS) $(WITH_GENERATOR)

report: setup  ## tables and figures of an evaluation
	$(PY) -m cvg.report --out "$(or $(OUT),runs/report.html)" $(ARGS)

app: setup  ## pages in the browser: ARGS="--shards runs/shards --evaluation runs/evaluation.json"
	$(PY) -m cvg.app $(WITH_CLASSIFIER) $(ARGS) $(WITH_GENERATOR)

bench: setup  ## time, memory and bytes of guidance, capture and inversion
	$(PY) -m benchmarks.cost --out "$(or $(OUT),runs/bench)" $(ARGS)
