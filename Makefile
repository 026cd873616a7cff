# make train   the main job: a search on ChannelPrune-VGG16-v0 (options: ARGS="--episodes 300")
# make test    ruff, mypy, pytest
# make lint    ruff and mypy alone
# make docs    the documentation site, into site/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/main-$(shell date +%Y%m%d-%H%M%S)
ARGS ?=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: train test lint docs

train: $(VENV)/.installed
	$(BIN)/python train.py --run $(RUN) $(ARGS)

# The linters come first, so that pytest's summary ends the output.
test: lint
	$(BIN)/python -m pytest --quiet --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.installed: pyproject.toml
	@echo "Installing the package and its dependencies into $(VENV) (once, some minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	@touch $@
