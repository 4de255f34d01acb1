# The door to the project: `make run` shows it at work, `make test` proves it. Both set themselves up.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The newest-tested interpreter first; `make PYTHON=/path/to/python3.12 …` overrides. Looked up only when a venv is built.
PYTHON ?= $(shell for python in python3.11 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS := $(VENV)/.docs
# Each worker starts the servers that its tests need.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# All of these have marks that leave them out of the first tests: to import them would take a while.
ELSEWHERE := --ignore=tests/faults --ignore=tests/stores --ignore=tests/browser --ignore=tests/systemd \
	--ignore=tests/install
# The tests start the program some thousand times: without bytecode on disk it would be compiled each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(INSTALLED) ## The demo: artifactd, a training job, its files in MLflow's UI; Ctrl-C ends it
	@$(BIN)/python examples/demo.py

# A third waits for programs of its own while the other two compute; `make test UNIT_WORKERS=0` for a debugger.
UNIT_WORKERS ?= 3
.PHONY: test
test: $(INSTALLED) ## Every test that needs no root and no extra server
	$(PYTEST) -n $(UNIT_WORKERS) $(ELSEWHERE) -m "not root and not presets and not big and not wide"

.PHONY: test-all
test-all: $(INSTALLED) ## Lint and every test there is
	$(MAKE) -j2 lint test-first
	$(MAKE) test-faults
	$(MAKE) test-stores
	@echo "Not run: the tests marked big (make test-big, make test-stores-big: 45 and 30 GB, 30 and 60 minutes), those marked"
	@echo "wide (heavy cases of what another test shows at less cost: make test-wide), the long storms (make soak, make soak-systemd),"
	@echo "trainings that need torch (make test-presets), the page in a real browser (make test-browser: a minute, and Chromium),"
	@echo "the units in a real systemd (make test-systemd: three minutes), what pipx and uv install (make test-install: one to three minutes,"
	@echo "with the newest versions of the network's), the Containerfile's image (make test-container: five minutes) and the Debian packages"
	@echo "in a clean Debian (make test-deb: 25 minutes)"

.PHONY: test-first
test-first: $(INSTALLED) ## Of test-all, what is neither lint nor a fault nor a store; fetches promtool where it is missing
	tests/promtool.sh $(BIN)
	$(PYTEST) -n $(UNIT_WORKERS) $(ELSEWHERE) -m "not big and not wide"

# These wait for clocks, backoff and timeouts more than they compute.
FAULT_WORKERS ?= 3
# The folder is named so that the table at the end is made.
.PHONY: test-faults
test-faults: $(INSTALLED) ## The promise under faults, bounded: kills, network, ledger, watch; ends with a table
	$(PYTEST) -n $(FAULT_WORKERS) -m "faults and not big and not wide" tests/faults

# These wait for servers, and for what never answers, more than they compute.
STORE_WORKERS ?= 3
.PHONY: test-stores
test-stores: $(INSTALLED) ## Every store by its real server; installs the servers that Debian has and this machine lacks
	tests/stores/tools.sh
	$(PYTEST) -n $(STORE_WORKERS) -m "stores and not big and not wide" tests/stores

# The folder that it is booted from is made once, and first: a minute, which no test shall be timed with.
.PHONY: systemd-root
systemd-root: $(INSTALLED) ## The folder that test-systemd boots from, made once: a minute
	tests/systemd/tools.sh
	PYTHONPATH=tests $(BIN)/python -m systemd.box

# These wait for the service more than they compute.
SYSTEMD_WORKERS ?= 3
# make test-systemd DEBIAN=trixie: of another release than the oldest
systemd-root test-systemd soak-systemd: export ARTIFACTD_TEST_DEBIAN = $(DEBIAN)
.PHONY: test-systemd
test-systemd: systemd-root ## The units in a real systemd in a root of its own; as root; installs systemd-nspawn where it is missing
	$(PYTEST) -n $(SYSTEMD_WORKERS) -m systemd tests/systemd

.PHONY: test-stores-big
test-stores-big: $(INSTALLED) ## A file of 6 GiB to every form of store that can hold it here, and 400 elections of 32 hosts: 30 GB of disk, an hour
	tests/stores/tools.sh
	$(BIN)/python -m pytest -n 0 -m "stores and big" tests/stores

.PHONY: test-wide
test-wide: $(INSTALLED) ## The heavy cases that test-all leaves out, since another one shows the same at less cost
	tests/stores/tools.sh
	$(PYTEST) -m "wide and not big"

.PHONY: test-browser
test-browser: $(INSTALLED) ## The page in a real Chromium, which it installs where it is missing; renews docs/pictures
	tests/browser/tools.sh
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r tests/browser/requirements.txt
	ARTIFACTD_SCREENSHOTS=docs/pictures $(BIN)/python -m pytest -n 0 -m browser tests/browser

.PHONY: test-presets
test-presets: $(INSTALLED) ## Each preset while its real framework trains; makes an environment with torch: 1 to 5 GB
	$(BIN)/python -m pytest -n 0 -m presets tests/presets

# make conformance BIG=1
.PHONY: conformance
conformance: $(INSTALLED) ## Every case before every form of store; writes docs/conformance.md; BIG=1 with 6 GiB
	tests/stores/tools.sh
	ARTIFACTD_CONFORMANCE=docs/conformance.md $(PYTEST) -m "stores$(if $(BIG),, and not big)" tests/stores/test_conformance.py

.PHONY: test-big
test-big: $(INSTALLED) ## Tens of gigabytes and hundreds of thousands of files: 45 GB of disk, 30 minutes
	ARTIFACTD_TEST_BIG=1 $(BIN)/python -m pytest -n 0 -m big tests/faults

.PHONY: bench-stores
bench-stores: $(INSTALLED) ## Each store's throughput beside MLflow's own call; 20 minutes on a machine that rests
	tests/stores/tools.sh
	$(BIN)/python benchmarks/stores.py

# make bench ONLY=small,latency SCALE=0.1 ROUNDS=3
.PHONY: bench
bench: $(INSTALLED) ## Every mark of speed and cost beside its peers, into docs/performance.md; an hour and 25 GB of a machine that rests
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(if $(ROUNDS),--rounds $(ROUNDS))
	$(BIN)/python benchmarks/bench.py --page

# make bench-compare REF=main ONLY=small: ends with an error where a mark costs over 10 % more than it did at REF.
REF ?= HEAD
.PHONY: bench-compare
bench-compare: $(INSTALLED) ## What is here beside REF=commit, in turn: does a mark of speed or cost get worse? Five minutes
	$(BIN)/python benchmarks/compare.py $(REF) $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE)) $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: profile
profile: $(INSTALLED) ## Where the time goes while thousands of small files are delivered: docs/profile.svg
	$(BIN)/python benchmarks/profiling.py

# make fuzz SCALE=0.1 SEED=7; one input again: python -m fuzz --seed 7 --only names --input 12345 (PYTHONPATH=tests).
.PHONY: fuzz
fuzz: $(INSTALLED) ## Over a million inputs to what reads names, settings, files, the ledger and servers' answers; 17 minutes
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[fuzz]' -c constraints.txt || \
		echo "atheris could not be installed: the inputs that it would guide are not run"
	PYTHONPATH=tests $(BIN)/python -m fuzz $(if $(SEED),--seed $(SEED)) $(if $(SCALE),--scale $(SCALE))

# make soak HOURS=8 SEED=1
HOURS ?= 1
.PHONY: soak
soak: $(INSTALLED) ## The kill storm for HOURS=n hours; SEED=n replays one
	$(BIN)/python tests/faults/soak.py --hours $(HOURS) $(if $(SEED),--seed $(SEED))

.PHONY: soak-systemd
soak-systemd: systemd-root ## Days of a training host in HOURS=n hours, under the unit in a real systemd: does anything grow? As root
	$(BIN)/python tests/systemd/soak.py --hours $(HOURS) $(if $(SEED),--seed $(SEED))

# What the theme's makers say of their next tool is nothing that a build has to say each time.
docs docs-serve: export NO_MKDOCS_2_WARNING := 1
.PHONY: docs
docs: $(DOCS) ## The documentation's site, into site/: the reference made from the code, every link checked; asks no network
	$(BIN)/python .ci/reference.py
	$(BIN)/python -m mkdocs build --quiet

.PHONY: docs-serve
docs-serve: $(DOCS) ## The same on http://127.0.0.1:8000, made anew with each change of a page
	$(BIN)/python .ci/reference.py
	$(BIN)/python -m mkdocs serve

.PHONY: lint
lint: $(INSTALLED) ## Style, types and the arrows between rooms
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(INSTALLED) ## Format the code and mend what ruff can mend
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

.PHONY: lock
lock: $(INSTALLED) ## Renew constraints.txt with the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install -qq --upgrade --upgrade-strategy eager -e '.[local,dev,docs]'
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable; } > $(VENV)/constraints.new
	@mv $(VENV)/constraints.new constraints.txt

.PHONY: release-check
release-check: $(INSTALLED) ## sdist, wheel and SBOM into dist/, looked into; the wheel tried afresh; version, changelog and tag compared; pins audited
	$(BIN)/python .ci/release.py

.PHONY: deb
deb: ## Debian packages into dist/, with an environment of their own: Debian 12 or newer, python3-venv, the network; no root
	packaging/debian/build.sh

# What is lent to it is a root filesystem of its own: nothing is installed here but mmdebstrap and lintian.
.PHONY: test-deb
test-deb: $(INSTALLED) ## Builds the packages; the tutorial by them in a clean Debian, then install, use, upgrade, remove, purge, and that under a real systemd; lintian: as root, 25 minutes
	packaging/debian/test.sh
	tests/systemd/tools.sh
	$(BIN)/python -m pytest -n 0 -m deb tests/install

.PHONY: test-container
test-container: $(INSTALLED) ## The Containerfile's image, built without an engine and used; as root; installs buildah where it is missing: five minutes
	tests/install/tools.sh
	$(BIN)/python -m pytest -n 0 -m container tests/install

.PHONY: test-install
test-install: $(INSTALLED) ## By pipx and by uv as docs/install.md has it: install, use, upgrade, remove; asks the network for the newest versions
	$(BIN)/python -m pytest -n 0 -m tools tests/install

.PHONY: venv
venv: $(INSTALLED) ## Only build the virtual environment

.PHONY: clean
clean: ## Remove what make has made: environment, demo, caches
	rm -rf $(VENV) demo dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp makes a repeated make instant. An environment that a newer lock only updates is kept; a broken one is built anew.
$(INSTALLED): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		python='$(PYTHON)'; \
		test -n "$$python" || { echo "artifactd needs Python 3.11 or newer, and neither python3.11 nor python3 is that." \
			"Install it (Debian: apt-get install python3.11 python3.11-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; }; \
		"$$python" -c 'import ensurepip' 2>/dev/null || { echo "$$python cannot build a virtual environment: its venv package is" \
			"missing. Install it (Debian: apt-get install python3-venv, or python3.11-venv for python3.11)" >&2; exit 1; }; \
		echo "Building $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); }
	@echo "Installing artifactd and what it needs into $(VENV): once, one to five minutes, about 1 GB"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[local,dev]' -c constraints.txt
	@touch $@

# Apart, since nothing but the site needs it.
$(DOCS): $(INSTALLED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[docs]' -c constraints.txt
	@touch $@
