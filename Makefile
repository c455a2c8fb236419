# Everything is installed by `setup` into .venv, from the registries, pinned by requirements.lock.
PYTHON ?= python3
UV := .venv/bin/uv
TARGET ?= pypi:boltons==26.2.0
MODEL ?= local

.PHONY: setup demo test soak check format lint typecheck lock histories agent-results agent-pages audit clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(UV) || ( \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }; \
		mkdir -p .bootstrap && sed -n '/^uv==/,/^ *#/p' requirements.lock > .bootstrap/uv.lock && \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes --upgrade --target .bootstrap -r .bootstrap/uv.lock && \
		.bootstrap/bin/uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv && \
		.bootstrap/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r .bootstrap/uv.lock && \
		rm -rf .bootstrap )
	$(UV) pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --editable .
	@touch $@

lock:
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--all-extras --group dev pyproject.toml --output-file requirements.lock

# ONLY="Pipeline Flow" records just these.
histories: setup
	PYTHONPATH=.:tests/integration .venv/bin/python tests/histories/record.py $(ONLY)

# docs/agents/results: real runs with the services of QE_DATA_DIR; ONLY="test-executor quality-gate" just these.
agent-results: setup
	PYTHONPATH=.:tests .venv/bin/python tests/agent_pages/record.py $(ONLY)

# docs/agents/*.md, from the declarations and those results.
agent-pages: setup
	PYTHONPATH=.:tests .venv/bin/python tests/agent_pages/pages.py

demo: setup
	.venv/bin/qe run pipeline "$(TARGET)" --model "$(MODEL)" --demo

test: setup
	@$(MAKE) --no-print-directory check
	.venv/bin/python -m pytest -m "not soak" --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 12

check: lint typecheck audit

format: setup
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lint: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/lint-imports --no-cache
	.venv/bin/squawk --config .squawk.toml qefleet/sql/migrations/*.sql

typecheck: setup
	.venv/bin/pyright

audit: setup
	.venv/bin/python .ci/audit.py

soak: setup
	.venv/bin/python -m pytest -m soak

clean:
	rm -rf .venv .bootstrap .pytest_cache .ruff_cache .hypothesis
