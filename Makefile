# make train   the main job: a search on ChannelPrune-VGG16Half-DigitPairs-v0 (options: ARGS="--episodes 300")
# make test    ruff, mypy, pytest
# make lint    ruff, mypy and the import rules alone
# make ci      what continuous integration adds: the documentation, and tests that need extras
# make docs    the documentation site, into site/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/main-$(shell date +%Y%m%d-%H%M%S)
ARGS ?=
# The release that the shipped numbers were measured with. The package itself takes newer and older
# ones; without this line pip would take the newest, which on Linux is a CUDA build of gigabytes.
TORCH ?= torch==2.13.0
PYTEST := $(BIN)/python -m pytest --quiet --numprocesses auto --maxprocesses 4 --dist worksteal
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: train test lint docs ci

train: $(VENV)/.installed
	$(BIN)/python train.py --run $(RUN) $(ARGS)

# The linters come first, so that pytest's summary ends the output.
test: lint
	$(PYTEST) -m "not ci"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

ci: docs $(VENV)/.installed-ci $(VENV)-morl/.installed
	$(PYTEST) -m ci
	$(VENV)-morl/bin/python -m pytest --quiet -k "morl or capql" tests/agents tests/envs tests/project

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.installed: pyproject.toml
	@echo "Installing the package and its dependencies into $(VENV) (once, some minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) '$(TORCH)' --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-ci: $(VENV)/.installed-dev
	$(INSTALL) --editable '.[dev,docs,ray]' torchrl
	@touch $@

# morl-baselines needs an older Pillow than the newest, so it gets an environment of its own.
$(VENV)-morl/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-morl
	$(VENV)-morl/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' \
		--editable '.[dev,morl]'
	@touch $@
