# Two commands: make book, make test. Each does all its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help book test reproduce gpu pdf lint clean

# What is named on the command line of make reproduce, such as PROFILE=full SEED=1, are the notebooks' parameters.
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
PARAMETERS = $(foreach name,$(filter-out PYTHON VENV NOTEBOOKS,$(GIVEN)),--parameter $(name) '$($(name))')
NOTEBOOKS ?=

help:
	@echo "make book       build the site into _build/html, strictly"
	@echo "make test       unit tests, then every notebook against its committed outputs"
	@echo "make reproduce  execute the notebooks again and rewrite them;"
	@echo "                PROFILE=full, SEED=1, ... leave them and write to _build/reproduced;"
	@echo "                NOTEBOOKS='mnist celeba' does some alone"
	@echo "make gpu        train and measure a slice of the comparison on a GPU: SLICE='grey:0 mnist:1', MINUTES=60"
	@echo "make pdf        the whole book as _build/book.pdf, through Chromium"
	@echo "make lint       the checks of code and text alone"
	@echo "make clean      remove what the others made (the environment stays)"

$(READY): requirements.txt constraints.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	@echo "making the environment in $(VENV): some minutes, and some 6 GB"
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

book: $(READY)
	rm -rf _build # a page built before is not read again, and its warnings would be lost
	$(BIN)/jupyter-book build . -W -n --keep-going
	$(BIN)/python tools/check_site.py _build/html

test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval --nbval-current-env -n auto --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python
	$(BIN)/python tools/check_text.py

reproduce: $(READY)
	$(BIN)/python tools/execute_notebooks.py $(NOTEBOOKS) $(PARAMETERS)

gpu: $(READY)
	$(BIN)/python tools/slices.py run $(SLICE) $(if $(MINUTES),--minutes $(MINUTES))

pdf: book
	$(BIN)/python tools/print_book.py _build/html _build/book.pdf

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
