PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/kit libs/models sdk deploy/local services/ingest services/trainer services/registry services/serving services/gateway services/pipelines
PROJECTS := $(PACKAGES:%=%/pyproject.toml)
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --all-extras --custom-compile-command "make lock" \
	--no-emit-index-url --no-emit-find-links --no-emit-package trainyard --no-emit-package trainyard-kit --no-emit-package trainyard-models

.PHONY: lock
lock: ## Compile constraints.txt and requirements/run.txt anew
	$(COMPILE) $(PROJECTS) requirements/build.in requirements/test.in -o constraints.txt
	$(COMPILE) $(PROJECTS) requirements/build.in -c constraints.txt -o requirements/run.txt
