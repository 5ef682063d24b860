# Two commands on a fresh machine: `make demo`, `make test`. Each makes what it needs first.

PYTHON ?= $(shell for it in python3 python3.13 python3.12 python3.11; do \
	$$it -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$it && break; done)
DATA ?= 2013
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/kit libs/models sdk deploy/local services/ingest services/trainer services/registry services/serving services/gateway services/pipelines
PROJECTS := $(PACKAGES:%=%/pyproject.toml)
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" \
	--no-emit-index-url --no-emit-find-links --no-emit-package trainyard --no-emit-package trainyard-kit --no-emit-package trainyard-models
# Not all of them: torch and its like are for images of one's own (docs/serving-formats.md), and no lock here has them.
EXTRAS := --extra training --extra serving --extra skops --extra job
# Of each image: its service, and behind the colon the extra of libs/models that it needs.
IMAGES := gateway ingest pipelines registry serving:training serving-onnx:serving trainer:- trainer-job:training
RUN := $(VENV)/run.stamp
TEST := $(VENV)/test.stamp
TRITON := .cache/triton
KSERVE := .cache/kserve
CHECKS := .cache/checks

.DEFAULT_GOAL := help
.PHONY: secrets images images-sizes containers-test compose-up compose-down
.PHONY: chaos help demo up down status backup restore test s3-test upgrade-test test-fast check check-charts check-workflows audit sbom release-notes version format coverage mutants bench lock docs estimators contracts swagger-ui clean python

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN) ## From a raw file to predictions: real flights, five minutes at most (DATA=2013-h1: half a year)
	@$(BIN)/python examples/flight-delays/demo.py --data $(DATA)

up: $(RUN) ## Start the suite on this machine ($TRAINYARD_HOME, $TRAINYARD_PORT)
	@$(BIN)/trainyard up

down: $(RUN) ## Stop it; all data stays
	@$(BIN)/trainyard down

status: $(RUN) ## What runs, and how much memory it takes
	@$(BIN)/trainyard status

test: $(TEST) $(TRITON)/stamp $(KSERVE)/stamp ## All tests, also the whole suite being killed: many minutes
	@$(BIN)/python tools/run_tests.py $(if $(COVERAGE),--coverage)

s3-test: $(TEST) ## What services do with bytes, on a real S3 in place of a folder
	TRAINYARD_TEST_OBJECTS=s3 $(BIN)/pytest -q services/registry/tests/test_api_blobs.py services/registry/tests/test_api_versions.py
	TRAINYARD_TEST_OBJECTS=s3 $(BIN)/pytest -q services/ingest/tests/test_api_uploads.py services/ingest/tests/test_store_pages.py
	TRAINYARD_TEST_OBJECTS=s3 $(BIN)/pytest -q services/trainer/tests/test_reconcile_results.py

upgrade-test: $(TEST) ## The previous release on the tables of this one, and a rolling upgrade and back: ten minutes
	$(BIN)/python tools/upgrades.py store-tests --all
	$(BIN)/pytest -q tests/upgrade tests/e2e/test_rolling_upgrade.py

backup: $(RUN) ## Copy all data of the suite on this machine to a new folder: make backup TO=/path
	@$(BIN)/trainyard backup "$(or $(TO),$(error make backup TO=/path/of/a/new/folder))"

restore: $(RUN) ## Fill an empty $TRAINYARD_HOME from a backup: make restore FROM=/path
	@$(BIN)/trainyard restore "$(or $(FROM),$(error make restore FROM=/path/of/a/backup))"

test-fast: $(TEST) ## What takes seconds: no test of the whole suite
	@$(BIN)/python tools/run_tests.py --fast

check: $(TEST) ## Format, lint, import contracts, types, sizes
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/size_gate.py
	$(BIN)/python tools/check_types.py

format: $(TEST) ## Format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

coverage: ## All tests, measured: domain/ and libs/kit whole, the rest 90 %
	@$(MAKE) --no-print-directory test COVERAGE=1

check-charts: $(TEST) $(CHECKS)/stamp ## Lint, render and judge the Helm charts and Dockerfiles; bad values must be refused
	@$(CHECKS)/bin/python tools/check_charts.py

check-workflows: $(CHECKS)/stamp ## What GitHub will run: zizmor, actionlint, rules of our own; asks no network
	@$(CHECKS)/bin/python tools/check_workflows.py

audit: $(TEST) $(CHECKS)/stamp ## Known vulnerabilities, floors and licences of what is locked (ADVISORIES=folder: without PyPI)
	@$(CHECKS)/bin/python tools/audit.py $(if $(ADVISORIES),--advisories $(ADVISORIES))

sbom: $(CHECKS)/stamp ## build/sbom/*.cdx.json: what each image installs, and all that is locked
	@$(CHECKS)/bin/python tools/sbom.py

release-notes: ## VERSION=1.2.0: the section of CHANGELOG.md that fragments make (WRITE=1: write it, remove them)
	@$(PYTHON) tools/release_notes.py "$$VERSION" $(if $(WRITE),--write) $(if $(RELEASED),--released)

version: ## Where this repository says its version, and whether they agree (VERSION=1.2.0: write it everywhere)
	@$(PYTHON) tools/versions.py $${VERSION:+"$$VERSION"}

secrets: ## Passwords for docker-compose.yml, into .env; what is there stays
	@$(PYTHON) tools/compose_secrets.py

images: ## Build the images (NAMES="gateway ingest": these; torch's only by name); where no registry answers, from Debian
	@$(PYTHON) tools/images.py build $(if $(BASE),--base $(BASE)) $(NAMES)

images-sizes: ## How large they are, and whether they may be
	@$(PYTHON) tools/images.py sizes

compose-up: secrets ## docker compose up with the images built here, in an engine of our own where none answers
	@$(PYTHON) tools/compose.py up

compose-down: ## Stop it; all data stays (VOLUMES=1: remove it)
	@$(PYTHON) tools/compose.py down $(if $(VOLUMES),--volumes)

containers-test: $(TEST) ## Images, compose, the example through the gateway, restarts under load: minutes; needs an engine, or root
	@$(BIN)/python tools/containers_test.py

mutants: $(TEST) ## Plant each known bug in a copy; the tests must find it
	@$(BIN)/python tools/mutants.py

bench: $(TEST) ## How fast it is, beside its peers in one run: AREA=gateway (ARGS="--rounds 8": more of it)
	$(BIN)/python -m benchmarks.$(or $(AREA),$(error make bench AREA=gateway)) $(ARGS)

chaos: $(TEST) ## What it does under more load than it can: AREA=serving (ARGS="--seconds 120": as long as is promised)
	$(BIN)/python -m benchmarks.$(if $(filter serving,$(AREA)),overload,$(error make chaos AREA=serving)) $(ARGS)

lock: $(TEST) ## Compile constraints.txt and requirements/*.txt anew
	$(COMPILE) $(EXTRAS) --extra grpc $(PROJECTS) requirements/build.in requirements/test.in -o constraints.txt
	$(COMPILE) $(EXTRAS) $(PROJECTS) requirements/build.in -c constraints.txt -o requirements/run.txt
	$(COMPILE) requirements/triton.in -o requirements/triton.txt
	$(COMPILE) requirements/kserve.in -o requirements/kserve.txt
	$(COMPILE) requirements/checks.in -o requirements/checks.txt
	$(COMPILE) requirements/build.in -c constraints.txt -o requirements/images/build.txt
	$(COMPILE) sdk/pyproject.toml requirements/demo.in -c constraints.txt -o requirements/images/demo.txt
	@for it in $(IMAGES); do name=$${it%:*}; extra=$${it#$$name}; extra=$${extra#:}; \
		$(COMPILE) services/$${name%%-*}/pyproject.toml libs/kit/pyproject.toml $${extra:+libs/models/pyproject.toml} \
		$$([ -z "$${extra#-}" ] || echo --extra $$extra) -c constraints.txt -o requirements/images/$$name.txt || exit 1; done

docs: $(TEST) ## Write docs/settings.md from the Settings classes
	$(BIN)/python tools/settings_page.py

estimators: $(TEST) ## docs/estimators.md: each estimator of scikit-learn trained, served and compared with itself; a minute
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python tools/estimators_table.py

contracts: $(TEST) ## Write contracts/<service>.openapi.json; refused when a promise is broken (BREAK=1)
	$(BIN)/python tools/contracts.py $(if $(BREAK),--break)

swagger-ui: $(RUN) ## Fetch Swagger UI's files anew (needs npm)
	$(BIN)/python tools/swagger_ui.py

clean: ## Remove what was made here: environments, caches, reports; no data of the suite
	rm -rf $(VENV) .cache .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@test -n "$(PYTHON)" || { echo "✘ Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }

$(RUN): requirements/run.txt $(PROJECTS) | python
	@$(PYTHON) tools/environment.py run
	@touch $@

$(TEST): constraints.txt $(PROJECTS) | python
	@$(PYTHON) tools/environment.py test
	@touch $(RUN) $@

$(TRITON)/stamp: requirements/triton.txt | python
	@$(PYTHON) tools/environment.py triton
	@touch $@

$(TRITON): $(TRITON)/stamp

$(KSERVE)/stamp: requirements/kserve.txt | python
	@$(PYTHON) tools/environment.py kserve
	@touch $@

$(KSERVE): $(KSERVE)/stamp

$(CHECKS)/stamp: requirements/checks.txt | python
	@$(PYTHON) tools/environment.py checks
	@touch $@

$(CHECKS): $(CHECKS)/stamp
