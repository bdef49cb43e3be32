# make demo: set up and run the main job. make test: set up and pass the tests (minutes).
# make test-all: the long tests besides, and the documentation. make docs: the documentation, site/.
PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ROBOT ?= planar8
# tests side by side
WORKERS ?= 2
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done$(if $(ROS_DISTRO),-$(ROS_DISTRO))
INTERFACES := $(VENV)/.interfaces-done$(if $(ROS_DISTRO),-$(ROS_DISTRO))
DOCS := $(VENV)/.docs-done$(if $(ROS_DISTRO),-$(ROS_DISTRO))
QP := .venv-qp/.setup-done
FILES := Makefile requirements.txt requirements-ros.txt setup.py \
	ros2_ws/src/polyreach_description/setup.py ros2_ws/src/polyreach_nodes/setup.py
export OMP_NUM_THREADS ?= 1

.PHONY: setup interfaces demo test test-all check docs format bench qp clean
setup: $(STAMP)
interfaces: $(INTERFACES)

# A sourced ROS 2 brings its own rclpy, which is built for NumPy 1; otherwise the wheels are used.
# Where the CPU build of torch can be had, it is preferred to the one with CUDA.
$(STAMP): $(FILES)
	@set -e; \
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
		echo "$(PYTHON) is not Python 3.11 or 3.12: make PYTHON=python3.11" >&2; exit 1; }; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || rm -rf $(VENV); \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install -q pip; } || { rm -rf $(VENV); \
		echo "cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }; \
	probe='import urllib.request; urllib.request.urlopen("$(TORCH_INDEX)/", timeout=5)'; \
	index=$$($(BIN)/python -c "$$probe" 2>/dev/null && echo "--extra-index-url $(TORCH_INDEX)" || true); \
	if [ -n "$$ROS_DISTRO" ] && $(BIN)/python -c 'import rclpy' 2>/dev/null; \
	then ros="numpy<2"; echo "using the sourced ROS 2 $$ROS_DISTRO"; \
	else ros="-r requirements-ros.txt"; echo "no ROS 2 is sourced: using its wheels"; fi; \
	echo "setting up $(VENV) (some minutes the first time)"; \
	$(BIN)/python -m pip install -q --disable-pip-version-check $$index -r requirements.txt $$ros; \
	$(BIN)/python -m pip install -q --disable-pip-version-check --use-pep517 --no-build-isolation --no-deps \
		-e ros2_ws/src/polyreach_description -e ros2_ws/src/polyreach_nodes -e .; \
	touch $(STAMP)

# only reach_node needs it; left out, with a message, where there is no C++ compiler
$(INTERFACES): requirements-interfaces.txt requirements-ros.txt ros2_ws/build_interfaces.sh \
		$(wildcard ros2_ws/src/polyreach_interfaces/*.* ros2_ws/src/polyreach_interfaces/action/*) \
		| $(STAMP)
	@ros2_ws/build_interfaces.sh $(VENV) $@

demo: setup
	$(BIN)/polyreach demo $(ROBOT)

test: setup interfaces
	$(BIN)/python -m pytest -n $(WORKERS)

# what `make test` leaves out: exhaustive cases, soaks, every benchmark in small, and the site
test-all: setup interfaces
	$(BIN)/python -m pytest -n $(WORKERS) -m "exhaustive or soak"
	$(MAKE) bench QUICK=1
	$(MAKE) docs

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy training/polyreach ros2_ws/src/polyreach_description/polyreach_description \
		ros2_ws/src/polyreach_nodes/polyreach_nodes docs/hooks
	$(BIN)/lint-imports --no-cache --no-logo

$(DOCS): requirements-docs.txt | $(STAMP)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-docs.txt
	@touch $@

# strict: a link to nothing is an error; pages are made from the code by docs/hooks
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# make bench QUICK=1: about a minute, one robot, fewer rounds; one part alone: .venv/bin/python -m benchmarks tick
bench: setup qp
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

# the environment of quadratic program and RRT-Connect in the benchmarks "reaching" and "obstacles"
qp: $(QP)
$(QP): requirements-qp.txt | $(STAMP)
	rm -rf .venv-qp
	$(BIN)/python -m venv --without-pip .venv-qp
	$(BIN)/python -m pip --python .venv-qp/bin/python install -q --disable-pip-version-check -r $<
	@touch $@

# all that can be made again; runs/ stays
clean:
	rm -rf $(VENV) .venv-qp site ros2_ws/build ros2_ws/install ros2_ws/log
