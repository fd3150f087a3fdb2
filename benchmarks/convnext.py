"""ConvNeXt-Tiny (28 million seeded random weights, 224x224) quantized by Keras, the whole of it: seconds, peak memory, coverage, signal over error of the logits.

    python -m benchmarks.convnext
"""

from __future__ import annotations

import resource
import time

import keras
import numpy as np

from quantizeml_core.api import quantize_model
from quantizeml_core.testing import decibels

SAMPLES = 16


def network() -> keras.Model:
    """Without its softmax; its layer scales, which start near zero, drawn anew so that every branch counts."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ConvNeXtTiny(weights=None, classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "layer_scale" in variable.path:
            variable.assign(rng.uniform(0.1, 1.0, variable.shape))
    return model


def main() -> None:
    model, rng = network(), np.random.default_rng(1)
    x = rng.integers(0, 256, (SAMPLES + 4, 224, 224, 3)).astype("float32")
    start = time.perf_counter()
    result = quantize_model(model, samples=x[:SAMPLES])
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cover = result.blueprint.coverage
    logits = [np.asarray(net(x[SAMPLES:])) for net in (model, result.model)]
    print(f"{seconds:.1f} s, {peak:.1f} GB, {cover.nodes} of {cover.total} nodes, {decibels(*logits):.1f} dB on images that did not calibrate")


if __name__ == "__main__":
    main()
