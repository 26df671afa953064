# make app    install what is missing and open the app on http://127.0.0.1:7860
# make test   install the test extra if needed and run every test
# make check  linter, formatter and type checker
PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test check

app: .venv/.app
	$(BIN)/python app.py $(ARGS)

test: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/.app: pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.test: .venv/.app
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
