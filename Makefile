# Every target does its own set-up: `make demo` and `make test` work on a fresh clone. See tools/setup.sh.
# ARGS reaches the program behind a target: `make demo ARGS=--exit`, `make test ARGS="-k resume -x"`.

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
NODE := $(VENV)/.node-found
ARGS ?=

# One test process more than cores, since a fifth of the time each waits for services and browsers; but never more than
# four: each may start a trainer of its own.
WORKERS := $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 3 ] && n=3; echo $$((n + 1)))

.PHONY: demo demo-minimind up test test-long test-faults lint format assets bench clean distclean
.DEFAULT_GOAL := help

help: ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(RUN) assets ## Train a copper potential from nothing, and serve (ARGS=--exit ends it)
	@$(BIN)/cairn demo $(ARGS)

demo-minimind: $(RUN) assets ## Pretrain a small language model from nothing, teach it to answer, and serve
	@$(BIN)/cairn demo --engine minimind $(ARGS)

up: $(RUN) assets ## Start Cairn on this machine
	@$(BIN)/cairn up $(ARGS)

test: $(DEV) assets lint ## Lint, types, import rules, then every test
	@tools/setup.sh chromium
	# One thread a trainer: several compete here for few cores, and spinning OpenMP threads would starve each other.
	OMP_NUM_THREADS=1 CAIRN_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadscope $(ARGS)

test-long: $(DEV) ## Tests that take minutes, too: every kind of training killed at ten random steps, stock trainings looked into
	OMP_NUM_THREADS=1 CAIRN_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadscope --long -m long $(ARGS)

test-faults: $(DEV) ## Harm every part and compare with undisturbed runs (ARGS="--faults=300 --report=FILE": a long random campaign)
	$(BIN)/pytest tests/faults --long $(if $(findstring --faults,$(ARGS)),-k campaign) $(ARGS)

lint: $(DEV) ## Style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## Put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

assets: $(RUN) $(NODE) ## Build the dashboard's scripts and styles
	@$(BIN)/python -m app.web.build

bench: $(DEV) assets ## Measure; prints ratios
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.storage
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.comparing
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.fleet
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.queue
	$(BIN)/python -m bench.trainer
	$(BIN)/python -m bench.determinism

clean: ## Remove what was built, but neither the environment nor data
	rm -rf build dist app/web/assets/dist app/web/assets/node_modules $(NODE)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find app worker migrations tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## Remove the environment and the demo's data, too
	rm -rf $(VENV) .demo

$(BIN)/uv: constraints.txt
	@tools/setup.sh venv
	@touch $@

$(RUN): $(BIN)/uv pyproject.toml constraints.txt
	@tools/setup.sh packages
	@touch $@

$(DEV): $(RUN)
	@tools/setup.sh dev
	@touch $@

$(NODE): $(RUN)
	@tools/setup.sh node
	@touch $@
