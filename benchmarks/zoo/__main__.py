"""`python -m benchmarks.zoo NAME FILE.onnx [SAMPLES.npz]`: write one network of the zoo, and 16 samples for it. Without arguments, the names."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

from . import ZOO
from .images import samples


def main(arguments: list[str]) -> None:
    if not arguments:
        print("\n".join(ZOO))
        return
    name, file, *rest = arguments
    model = ZOO[name].build(ZOO[name].size)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)
    if rest:
        np.savez(rest[0], samples=samples(model))


if __name__ == "__main__":
    main(sys.argv[1:])
