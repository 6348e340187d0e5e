# The commands of the project, for developers and for continuous integration. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz lint audit check soak faults fmt clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Install the virtual environment and the embedded AWS in this folder
$(STAMP): local/install.sh pyproject.toml uv.lock local/embedded-aws.txt
	@sh local/install.sh
	@touch $@

demo: install  ## Run the whole loop on the embedded AWS until Ctrl-C (EXIT=1: end after the summary)
	@exec $(BIN)/riskwatch demo $(if $(filter 1,$(EXIT)),--exit) $(if $(FLEET),--fleet $(FLEET))

test: install  ## Run the tests
	@$(BIN)/pytest --numprocesses auto $(ARGS)

fuzz: install  ## Search longer than the tests for inputs that a reader does not handle (ARGS: one file, for example)
	@$(BIN)/pytest --numprocesses auto --timeout 0 --hypothesis-profile fuzz \
		$(or $(ARGS),$(shell find tests/unit -name 'test_*properties.py'))

lint: install  ## Check format, lint rules, import contracts and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml

audit: install  ## Check the locked packages for known vulnerabilities (skipped without access to the advisory database)
	@sh local/audit.sh

check: lint test  ## Run all checks of continuous integration except the demo and the long end-to-end tests

soak: install  ## Measure the memory of the running demo for half an hour (ARGS="--minutes 5": shorter)
	@$(BIN)/python -m bench.soak $(ARGS)

faults: install  ## Let a running demo meet faults for about 20 minutes (ARGS="--only NAME,...": some of them)
	@$(BIN)/python -m bench.faults $(ARGS)

fmt: install  ## Format the code and apply the automatic fixes of the linter
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## Remove all files that make and the demo have created
	@rm -rf .venv .venv-aws .uv .cxx .riskwatch .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
