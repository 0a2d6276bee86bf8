# make demo      the whole loop on this machine: demonstrations, training, evaluation, report
# make chain     language, then vision and language, then action, on this machine, and evaluated
# make policies  a policy for each of the simulation's tasks, trained and evaluated: hours
# make results   docs/results.md anew from the ledgers in docs/results
# make test      the tests that don't take minutes, TEST_WORKERS=2 at once
# make check     what .ci/run checks besides the tests: lint, format, types, imports, stubs
# make stubs     the gRPC stubs anew from proto/
# make clean     what the demo and the tests wrote; not .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TEST_WORKERS ?= 2

.PHONY: demo chain policies results test check stubs install clean

demo: $(INSTALLED)
	@$(BIN)/python examples/demo.py

chain: $(INSTALLED)
	@$(BIN)/python examples/chain.py $(CHAIN_ARGUMENTS)

policies: $(INSTALLED)
	@$(BIN)/python examples/policies.py $(POLICIES_ARGUMENTS)

results: $(INSTALLED)
	@$(BIN)/python examples/results.py

test: $(INSTALLED)
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 1 $(PYTEST_ARGUMENTS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

stubs: $(INSTALLED)
	$(BIN)/python -m policy_interface.generate

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt install.sh
	@sh install.sh $(PYTHON) $(VENV)
	@touch $@

clean:
	rm -rf runs report results .pytest_cache .ruff_cache .hypothesis
