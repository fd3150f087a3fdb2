"""How long `check` takes on float networks, import of the framework aside, and what it finds: the examples and a network of ResNet50's shape.

    python -m benchmarks.legality
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

from quantizeml_core.api import check_model, load_model

from .zoo import ZOO

MODELS = Path(__file__).parents[1] / "examples/models"
TARGETS = ("akida1", "akida2")
ROUNDS = 5


def networks() -> dict[str, onnx.ModelProto]:
    return {"resnet50 (random weights)": ZOO["resnet50_torch"].build(224), **{path.stem: load_model(path) for path in sorted(MODELS.glob("*.onnx"))}}


def timed(net: onnx.ModelProto, target: str) -> tuple[float, Counter[str]]:
    """Seconds of the fastest of ROUNDS checks, and how many broken rows of each kind it found."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = check_model(net, target=target)
        seconds.append(time.perf_counter() - start)
    return min(seconds), Counter(f.fix or "stop" for f in found)


def main() -> None:
    view = Table("network", "target", "seconds", "repaired exactly", "left to the user", "float from here", title="check of a float network, before any sample")
    for name, net in networks().items():
        for target in TARGETS:
            seconds, kinds = timed(net, target)
            view.add_row(name, target, f"{seconds:.2f}", *(str(kinds[k]) for k in ("exact", "manual", "stop")))
    Console(width=140).print(view)


if __name__ == "__main__":
    main()
