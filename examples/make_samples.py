"""Writes calibration samples of a trained network: `python -m examples.make_samples NET OUT.npz`.

The samples are the first 1024 of the train part, preprocessed as the network takes them, so `quantizeml quantize -sa OUT.npz` reads them as
they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .trained import CALIBRATION_SAMPLES, NETS, Net


def write_samples(net: Net, path: Path, count: int = CALIBRATION_SAMPLES, seed: int | None = None) -> Path:
    """Writes one array `samples` to a `.npz` file, and makes its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, samples=net.samples(count, seed))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("net", choices=NETS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=CALIBRATION_SAMPLES)
    parser.add_argument("--seed", type=int, help="a seeded choice instead of the first rows")
    args = parser.parse_args()
    print(write_samples(NETS[args.net], args.out, args.count, args.seed))


if __name__ == "__main__":
    main()
