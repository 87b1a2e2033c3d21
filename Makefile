# The two commands of the README are `make demo` and `make test`; each sets up what it needs in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# For two cores: many tests wait for a server or for another process.
WORKERS ?= 3
MINUTES ?= 20
VERSION_SUITES ?= contract unit index evidence cli stress
# The tests start a thousand interpreters: each would compile the project again where no compiled file may be kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-awaited test-postgres test-pooler test-versions mutants lint format reference exhaustive torture bench bench-quick clean

# ENGINE=postgres: agents of three hosts on a database; it starts a server unless SHARDSTORE_TEST_POSTGRES names one.
demo: $(VENV)/$(if $(filter postgres,$(ENGINE)),.dev,.runtime)
	$(BIN)/python -m bench.demo$(if $(filter postgres,$(ENGINE)),_postgres)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# All of the contract through AsyncStore; `make test` runs a part of that.
test-awaited: $(VENV)/.dev
	SHARDSTORE_TEST_WHOLE_CONTRACT=1 $(BIN)/python -m pytest -n $(WORKERS) tests/contract -k awaited

# Each Python that is claimed and found here, in a virtual environment of its own; SHARDSTORE_PYTHONS names more.
test-versions: $(VENV)/.python
	$(BIN)/python -m tests.versions --workers $(WORKERS) $(VERSION_SUITES)

# Clients and servers of the PostgreSQL engine are killed, standbys take over; each test starts a server of its own.
# Then a part of the contract through PgBouncer, where that is installed.
test-postgres: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not torture" tests/postgres
	SHARDSTORE_TEST_POOLER=1 $(BIN)/python -m pytest -n $(WORKERS) tests/contract -k pooled

# All of the contract through PgBouncer.
test-pooler: $(VENV)/.dev
	SHARDSTORE_TEST_POOLER=1 SHARDSTORE_TEST_WHOLE_CONTRACT=1 $(BIN)/python -m pytest -n $(WORKERS) tests/contract -k pooled

# Small mutants of the core, made by machine: tests/mutations/SURVIVORS.md lists those that no test notices.
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutations.hunt $(MUTANTS)

# What takes minutes and is no torture: larger models of the index, longer races.
exhaustive: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m exhaustive

torture: WORKERS = 2
torture: $(VENV)/.dev
	$(BIN)/python -m tests.torture --workers $(WORKERS) --minutes $(MINUTES) --out build/torture.json

lint: $(VENV)/.dev build/typing/shardstore_cli
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Parts of docs/reference/ come from docstrings, options and constants.
reference: $(VENV)/.dev
	$(BIN)/python -m docs.generate

# The peers are pinned in bench/requirements.txt and live in a venv of their own.
bench: $(VENV)-bench/.ready
	$(VENV)-bench/bin/python -m bench run $(BENCH) --out build/bench.json
	$(VENV)-bench/bin/python -m bench report build/bench.json --markdown docs/internals/benchmarks.md --readme README.md --plots docs/internals/images

bench-quick: $(VENV)-bench/.ready
	$(VENV)-bench/bin/python -m bench run --quick --out build/bench-quick.json

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "shardstore needs Python 3.11 or newer; set PYTHON=/path/to/python3.11 or the like"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "python3 cannot make a virtual environment; on Debian and Ubuntu install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.runtime: pyproject.toml | $(VENV)/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.python build/typing/shardstore_cli
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -c "$$WRITE_PATHS"
	@touch $@ $(VENV)/.runtime

$(VENV)-bench/.ready: pyproject.toml bench/requirements.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -e . -r bench/requirements.txt
	@touch $@

# An editable install finds the packages by a hook that type checkers do not run. They read a list of folders.
define WRITE_PATHS
import pathlib, sysconfig
here = pathlib.Path.cwd()
pathlib.Path(sysconfig.get_path("purelib"), "shardstore-sources.pth").write_text(f"{here}\n{here / 'build' / 'typing'}\n")
endef
export WRITE_PATHS

# Type checkers look for a package in a folder of its name; the wheel calls cli/ shardstore_cli.
build/typing/shardstore_cli:
	@mkdir -p build/typing
	@ln -sfn ../../cli $@

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-3.* build dist *.egg-info
