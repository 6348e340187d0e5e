# One entry for people and for continuous integration. `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help install demo test lint check fmt clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Set everything up in this folder: environment, embedded AWS
$(STAMP): local/install.sh pyproject.toml uv.lock local/embedded-aws.txt
	@sh local/install.sh
	@touch $@

demo: install  ## Run the whole loop on the embedded AWS; stays up until Ctrl-C (EXIT=1 ends after the summary)
	@exec $(BIN)/riskwatch demo $(if $(filter 1,$(EXIT)),--exit) $(if $(FLEET),--fleet $(FLEET))

test: install  ## Run the tests
	@$(BIN)/pytest --numprocesses auto $(ARGS)

lint: install  ## Check format, lint, the walls between the rooms, and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml

check: lint test  ## Everything continuous integration runs except the demo

fmt: install  ## Format, and mend what the linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## Remove all that make and the demo have made here
	@rm -rf .venv .venv-aws .uv .cxx .riskwatch .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
