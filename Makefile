# Everything sets itself up: `make demo` and `make test` install what is missing, and start at once the second time.
PYTHON ?= python3
# The tests wait more than they compute: three workers suit two cores. Files stay together, as they share parts.
WORKERS ?= 3
RUN = .venv/bin/python

.PHONY: setup demo test faults faults-vllm bench gpu-proof lint

setup:
	@$(PYTHON) -m sandbox.install

demo: setup
	@$(RUN) -m sandbox demo $(ARGS)

# What fails beside others is run once more, alone: real parts on two busy cores now and then miss a deadline, and a
# real mistake fails again, at the same random moments. Both runs are in the output. Exit code 1 is failed tests; after
# any other, what failed is not known.
test: export E2E_KILL_SEED := $(or $(E2E_KILL_SEED),$(shell $(PYTHON) -c "import random; print(random.randrange(10**6))"))
test: setup
	@echo "Random moments by E2E_KILL_SEED=$$E2E_KILL_SEED"
	@$(RUN) -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS) || { \
	  code=$$?; [ $$code -eq 1 ] || exit $$code; \
	  echo "Some tests failed beside others; those once more, alone:"; \
	  $(RUN) -m pytest -q -p no:xdist --last-failed --last-failed-no-failures none; }

# Every fault on real parts, and the verdicts. A real vLLM is installed the first time (4 to 6 GB, 3 to 6 min);
# `make faults ARGS=--real=no` goes without, `make faults-vllm` plays its rows alone.
faults: setup
	@$(RUN) -m sandbox.fault_table $(ARGS)

faults-vllm: setup
	@$(RUN) -m sandbox.fault_table --real=only $(ARGS)

bench: setup
	@$(RUN) -m sandbox.bench $(ARGS)

# On a machine with an NVIDIA GPU, as root: the GPU node agent beside nvidia-smi, and with a real Xid 31. Elsewhere it
# says that nothing was proved, and exits with 77.
gpu-proof: setup
	@$(RUN) -m sandbox.gpu_proof $(ARGS)

lint: setup
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
