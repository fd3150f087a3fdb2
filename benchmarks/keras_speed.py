"""How fast quantized Keras networks are: `predict`, one epoch of `fit`, and `quantize` itself, beside the float network in the same process.

    python -m benchmarks.keras_speed [--nets NET ...] [--rounds N] [--json FILE]

Float and quantized runs alternate, so that a busy machine is busy for both; medians are shown, after one run of each that compiles. Times are those of
this machine: read the ratios. `predict` takes the test part and `fit` the train part, in batches of 128; `quantize` takes 1024 samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.keras_training import prepare_training
from examples.trained import NETS, Net

from .keras_accuracy import KERAS_NETS

BATCH = 128


@dataclass(frozen=True)
class Row:
    """Seconds of one network."""

    net: str
    quantize: float
    float_predict: float
    predict: float
    float_epoch: float
    epoch: float


def measure(net: Net, rounds: int) -> Row:
    from quantizeml.models import load_model, quantize
    model, samples = load_model(net.keras), net.samples()
    start = time.perf_counter()
    quantized = quantize(model, samples=samples)
    took = time.perf_counter() - start
    x = net.test()[0]
    predict = _medians([lambda: model.predict(x, BATCH, verbose=0), lambda: quantized.predict(x, BATCH, verbose=0)], rounds)
    epoch = _medians([_epoch(m, net) for m in (model, quantized)], rounds)
    return Row(net.name, took, *predict, *epoch)


def _epoch(model: Any, net: Net) -> Callable[[], Any]:
    x, labels = prepare_training(model, net)
    return lambda: model.fit(x, labels, batch_size=BATCH, epochs=1, verbose=0)


def _medians(tasks: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Median seconds of each task, run in turn; the first round compiles and is not counted."""
    times: list[list[float]] = [[] for _ in tasks]
    for index in range(rounds + 1):
        for seen, task in zip(times, tasks, strict=True):
            start = time.perf_counter()
            task()
            if index:
                seen.append(time.perf_counter() - start)
    return [median(seen) for seen in times]


def table(rows: Sequence[Row]) -> Table:
    made = Table(title="Keras: seconds, and ratios to the float network")
    for name in ("network", "quantize", "predict float", "ours", "ratio", "epoch float", "ours", "ratio"):
        made.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
    for r in rows:
        made.add_row(r.net, f"{r.quantize:.2f}", f"{r.float_predict:.3f}", f"{r.predict:.3f}", f"{r.predict / r.float_predict:.2f}",
                     f"{r.float_epoch:.2f}", f"{r.epoch:.2f}", f"{r.epoch / r.float_epoch:.2f}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--nets", nargs="+", choices=KERAS_NETS, default=KERAS_NETS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    rows = [measure(NETS[name], args.rounds) for name in args.nets]
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=150)
    console.print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
