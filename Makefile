# make run     set up everything and run the product          make check   full-size acceptance runs (under an hour)
# make test    set up everything and pass the tests           make bench   the benchmarks
# make fast    the tests that need seconds               make docs    the documentation site
# make soak    kills and load for ten minutes             make audit   known faults of code and versions
# make fuzz    many thousand odd requests and files (an hour)
# make lint    linter and type checker                       make reproduce FIGURES="2 6"   the paper's, on its own data
# make lock    the versions that are installed, anew          make pin-images  the digests of the images in use
# make peers   our list beside MLflow, optuna-dashboard, Trackio and Aim, which it installs (half an hour, network)

NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p $(NEW_ENOUGH) 2>/dev/null && echo $$p && break; done)
UV := $(shell command -v uv 2>/dev/null)
TORCH_BACKEND ?= auto
VENV := .venv
BIN := $(VENV)/bin

# Where it is set, each of the many processes that the tests start compiles the whole product anew (0.8 s of 4 for a server).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test fast lint check fuzz soak audit bench peers gpu-check reproduce docs lock pin-images clean system

run: $(VENV)/.installed
	@exec $(BIN)/modescape up

test: $(VENV)/.installed-dev system
	$(BIN)/python -m pytest tests -m "not check and not fuzz and not soak"

fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests -m "not slow and not check and not fuzz and not soak"

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check worker backend migrations tests benchmarks docs examples
	$(BIN)/python -m ruff format --check worker backend migrations tests benchmarks docs examples
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

# Many thousand odd requests and files, on both databases; CASES=100000 for more. What was counted is kept with its day.
fuzz: $(VENV)/.installed-dev system
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	MODESCAPE_FUZZ_CASES=$(or $(CASES),20000) $(BIN)/python -m pytest tests -m fuzz --timeout 7200 -s

# Everything is killed again and again while clients ask; SECONDS=86400 for a day.
soak: $(VENV)/.installed-dev system
	MODESCAPE_SOAK_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest tests/test_soak.py -m soak --numprocesses 0 -s

# Findings in the code, mended or justified in tests/auditing.py, and known faults of the versions in locks/.
audit: $(VENV)/.installed-dev
	@$(BIN)/python -m bandit --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --editable '.[audit]'
	@$(BIN)/python tests/auditing.py

check: $(VENV)/.installed-dev system
	$(BIN)/python -m pytest tests -m check --timeout 3600 -s

bench: $(VENV)/.installed-dev
	@for file in $(filter-out benchmarks/gpu_check.py benchmarks/peers.py benchmarks/protocol.py benchmarks/reproduce.py benchmarks/table.py,$(wildcard benchmarks/[!_]*.py)); do \
	  $(BIN)/python $$file; done
	@$(BIN)/python benchmarks/table.py

peers: $(VENV)/.installed-dev system
	$(BIN)/python benchmarks/peers.py
	@$(BIN)/python benchmarks/table.py

# Whether the product works on a GPU, and how full the card is; DEVICE=cpu tries the command itself.
gpu-check: $(VENV)/.installed-dev
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/gpu_check.py $(or $(DEVICE),cuda)

reproduce: $(VENV)/.installed-dev system
	$(BIN)/python benchmarks/reproduce.py $(or $(FIGURES),--list)

docs: $(VENV)/.installed-dev
	$(BIN)/python -m mkdocs build --quiet

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Modescape needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) $(NEW_ENOUGH) || { echo "Modescape needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)"; exit 1; }
	@{ test -n "$(UV)" && $(UV) venv --quiet --seed --python $(PYTHON) $(VENV); } || $(PYTHON) -m venv $(VENV) || { echo "The environment could not be made; on Debian and Ubuntu: sudo apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

# What was tried together is in locks/: every package with its version and hashes, torch and torchvision by version alone,
# because their build is another on each machine. Where a lock does not fit (another platform, an index that has other
# files), the newest that pyproject.toml allows is installed, and it is said. LOCKED=no asks for that.
# uv finds the build of torch that fits the machine: without a GPU some 200 MB instead of gigabytes with CUDA. pip takes
# what its index has, or the torch of the index TORCH_INDEX.
define install
	@if test "$(LOCKED)" = no; then false; \
	elif test -n "$(UV)" -a -z "$(TORCH_INDEX)"; then \
	  $(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirement locks/$(1).txt && \
	  $(UV) pip install --quiet --python $(BIN)/python --torch-backend $(TORCH_BACKEND) --requirement locks/torch.txt && \
	  $(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  $(BIN)/python -m pip install --quiet --require-hashes --requirement locks/$(1).txt && \
	  $(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") --requirement locks/torch.txt && \
	  $(BIN)/python -m pip install --quiet --no-deps --editable .; \
	fi || { test "$(LOCKED)" = no || echo "locks/$(1).txt does not fit this machine or its index: what pyproject.toml allows is installed"; \
	if test -z "$(TORCH_INDEX)" -a -n "$(UV)" && \
	  $(UV) pip install --quiet --python $(BIN)/python --torch-backend $(TORCH_BACKEND) --editable '.[$(1)]'; then :; \
	else \
	  test -z "$(UV)" -o -n "$(TORCH_INDEX)" || echo "uv did not reach it; pip installs the torch that its index has"; \
	  test -z "$(TORCH_INDEX)" || $(BIN)/python -m pip install --quiet --index-url "$(TORCH_INDEX)" torch torchvision && \
	  $(BIN)/python -m pip install --quiet --editable '.[$(1)]'; \
	fi; }
endef

$(VENV)/.installed: pyproject.toml locks/all.txt | $(VENV)/bin/python
	@echo "Installing Modescape into $(VENV) (torch is large: a few minutes, once)"
	$(call install,all)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml locks/dev.txt | $(VENV)/bin/python
	@echo "Installing Modescape and its test tools into $(VENV)"
	$(call install,dev)
	@touch $@ $(VENV)/.installed

# Writes locks/ anew for every platform and Python we run on, keeping versions that are still allowed (UPGRADE=--upgrade: the newest).
BESIDE := ^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml
lock:
	@test -n "$(UV)" || { echo "make lock needs uv, which solves for every platform at once: pip install uv"; exit 1; }
	@$(COMPILE) --extra dev $(if $(UPGRADE),$(UPGRADE),--constraint locks/torch.txt) --output-file locks/dev.txt
	@sed -nE 's/^(torch|torchvision)==([^ ;]+).*/\1==\2/p' locks/dev.txt > locks/torch.txt
	@$(COMPILE) --extra all --constraint locks/dev.txt --output-file locks/all.txt
	@$(COMPILE) --extra server --extra postgres --extra s3 --constraint locks/dev.txt --output-file locks/server.txt
	@for file in locks/dev.txt locks/all.txt locks/server.txt; do \
	  awk '/^[a-zA-Z0-9]/ {beside = $$0 ~ /$(BESIDE)/} !beside' $$file > $$file.new && mv $$file.new $$file; done

# Writes the digests of the images behind their versions, as a registry tells them; none is written by hand.
pin-images:
	@sh locks/pin_images.sh Dockerfile docker-compose.yml

# The browser and the servers the tests run against.
system:
	@sh tests/system.sh

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
