#!/bin/sh
# Creates the environment of the reference implementation, apart from ours: both own a package named `quantizeml`.
# QUANTIZEML_PEER_VENV says where (build/peer-venv), PYTHON which interpreter (python3; its TensorFlow wants 3.9 to 3.12). About 2.5 GB.
set -eu
venv="${QUANTIZEML_PEER_VENV:-build/peer-venv}"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet quantizeml==1.2.5
"$venv/bin/python" -m pip list | grep -i -E '^(quantizeml|tensorflow|onnx|onnxruntime|numpy) '
