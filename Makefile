# Thin over commands that the README also shows without make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing into .venv; this takes a minute or two"
	$(if $(TORCH_ARGS),$(BIN)/pip install --quiet $$(grep ^torch== constraints.txt) $(TORCH_ARGS))
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch .venv/installed

demo: .venv/installed  ## search, confirm and report on real data
	$(BIN)/pso-attn delete demo --yes --quiet 2>/dev/null || true
	$(BIN)/pso-attn search digits --run demo
	$(BIN)/pso-attn confirm demo
	$(BIN)/pso-attn report demo

test: .venv/installed  ## the whole test suite
	$(BIN)/pytest -n 2 --dist loadfile

check: .venv/installed  ## format, lint, types, layers, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow" tests/unit tests/property

bench: .venv/installed  ## one batch against one by one
	$(BIN)/python benchmarks/batched_training.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
