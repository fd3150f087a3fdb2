"""Runs in the reference's own environment, knows nothing of ours: outputs of one of its quantized Keras models on given inputs.

    PEER_PYTHON benchmarks/reference_predict.py MODEL.h5 INPUTS.npy OUTPUTS.npy
"""

from __future__ import annotations

import sys

import numpy as np


def main(model: str, inputs: str, outputs: str) -> None:
    from quantizeml import load_model
    x = np.load(inputs)
    quantized = load_model(model)
    np.save(outputs, quantized.predict(x.astype(quantized.inputs[0].dtype.as_numpy_dtype), batch_size=100, verbose=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
