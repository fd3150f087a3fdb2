# Two commands for a fresh clone. Each makes its own environment inside the checkout and touches nothing else on the machine.
#
#   make quickstart   quantize real trained networks with real samples, in ONNX and in Keras, and show what came out
#   make test         install everything with the test tools and run the tests

PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check
PROJECTS = pyproject.toml $(wildcard plugins/*/pyproject.toml)
ROAD = -e . -e plugins/onnx -e plugins/keras -e plugins/akida_v1 -e plugins/akida_v2

.PHONY: quickstart test help-page clean

quickstart: .venv-quickstart/installed
	.venv-quickstart/bin/python -m examples.quickstart
	TF_CPP_MIN_LOG_LEVEL=2 .venv-quickstart/bin/python -m examples.quickstart_keras

test: .venv/installed
	.venv/bin/python -m pytest $(PYTEST_FLAGS)

# docs/help.md shows every help screen; a test compares it with the commands.
help-page: .venv/installed
	.venv/bin/python docs/make_help.py > docs/help.md

.venv-quickstart/installed: $(PROJECTS)
	$(PYTHON) -m venv .venv-quickstart
	.venv-quickstart/bin/python $(PIP) $(ROAD)
	touch $@

.venv/installed: $(PROJECTS)
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) $(ROAD) -e ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-quickstart build
