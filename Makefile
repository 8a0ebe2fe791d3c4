# Needs Python 3.10 to 3.13, make and pip; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

DEMO_CATEGORY := brushed_metal
DEMO_IMAGES := datasets/surface_demo/$(DEMO_CATEGORY)/test
DEMO_RUN := results/Ear/SurfaceDemo/$(DEMO_CATEGORY)/latest
DEMO_CKPT := $(DEMO_RUN)/weights/lightning/model.ckpt

# Without files of bytecode each process of the tests compiles all that it imports, which is most of its time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-lowest lint clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

install: $(INSTALLED) ## create .venv and install the package into it, editable

# Editable installs hold copies of the start-up hook: a change of it needs a new install.
$(INSTALLED): pyproject.toml src/_anomalib_ear_hook.py src/anomalib_ear.pth src/anomalib_ear.start
	@command -v $(PYTHON) >/dev/null || { echo "make: '$(PYTHON)' not found; try: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("make: $(PYTHON) is Python %d.%d, but 3.10 to 3.13 is needed; try: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -e ".[dev]"
	touch $@

demo: $(INSTALLED) ## train, test, predict and export Ear on generated surfaces
	$(BIN)/anomalib train --model Ear --config configs/demo.yaml
	$(BIN)/anomalib predict --model Ear --data $(DEMO_IMAGES) --ckpt_path $(DEMO_CKPT)
	$(BIN)/anomalib export --model Ear --export_type openvino --ckpt_path $(DEMO_CKPT) --export_root results/demo
	@echo
	@echo "Pictures of the test: $(DEMO_RUN)/images"
	@echo "Pictures of the predictions: results/Ear/latest/images"
	@echo "OpenVINO model: results/demo/weights/openvino"

PYTEST := -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# Most tests start processes that compute: with a thread each they wait for one another less than with all cores each.
test: $(INSTALLED) ## run every test
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

# Python 3.10 or 3.11: for later ones some of the oldest versions have no wheels.
test-lowest: $(INSTALLED) ## run every test with the oldest dependencies that pyproject.toml allows
	$(BIN)/uv venv --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --python .venv-lowest --resolution lowest-direct -e ".[test]"
	OMP_NUM_THREADS=1 .venv-lowest/bin/python $(PYTEST)

lint: $(INSTALLED) ## check style, format, types and who imports whom
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-cache

clean: ## remove the environments and the tools' caches
	rm -rf .venv .venv-lowest line_env .mypy_cache .pytest_cache .ruff_cache dist
