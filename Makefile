# Everything sets itself up: `make demo` and `make test` install what is missing, and start at once the second time.
PYTHON ?= python3
RUN = .venv/bin/python

.PHONY: setup demo test bench lint

setup:
	@$(PYTHON) -m sandbox.install

demo: setup
	@$(RUN) -m sandbox demo $(ARGS)

test: setup
	@$(RUN) -m pytest $(ARGS)

bench: setup
	@$(RUN) -m sandbox.bench $(ARGS)

lint: setup
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
