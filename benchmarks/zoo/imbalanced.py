"""Inverted bottlenecks as training leaves them and as quantizers fear them. Random and seeded, with

    loud channels     one in ten of each depthwise layer, 6 to 17 times as large as the others
    rare channels     a high threshold behind a random direction: the maxima that sixteen images reach are exceeded by the next one
    bounded ones      every activation ends at 6
    additions         of branches that are 0.15 to 1 times as large as what they are added to
    an offset         the input is not symmetric

Each of these can be left out, by its first word.
"""

from __future__ import annotations

import numpy as np
import onnx

from .builder import Builder, image_input
from .images import samples
from .statistics import levelled

WIDTH = 32
EXPANSION = 4
STRIDES = (1, 2, 1, 2, 1, 2, 1)
SCALES = (1.0, 1.0, 0.3, 1.0, 0.5, 1.0, 0.15)
"""What the branches write, one after the other."""
CLASSES = 100
LOUD = 0.1
RARE = 6.0
CAUSES = ("loud", "rare", "bounded", "additions", "offset")
OFFSET = (1.0, 1.5, 2.0)
SEED = 7


class _Planter:
    """Builds the layers and remembers what is planted in each."""

    def __init__(self, without: str) -> None:
        self.without, self.threshold = without, 0.0 if without == "rare" else RARE
        self.builder, self.rng = Builder(SEED), np.random.default_rng(SEED)
        self.gains: dict[str, np.ndarray] = {}
        self.thresholds: dict[str, np.ndarray] = {}

    def conv(self, x: str, filters: int, kernel: int, stride: int = 1, *, gain: np.ndarray | float = 1.0, threshold: float = 0.0, groups: int = 1) -> str:
        y = self.builder.conv(x, filters, kernel, stride, groups=groups)
        self.gains[y] = np.broadcast_to(gain, (filters,))
        self.thresholds[y] = threshold * self.rng.random(filters)
        return y

    def activation(self, x: str) -> str:
        return self.builder.node("Relu", x) if self.without == "bounded" else self.builder.clip(x)

    def bottleneck(self, x: str, stride: int, scale: float) -> str:
        wide = EXPANSION * self.builder.channels[x]
        loud = np.where(self.rng.random(wide) < LOUD, self.rng.uniform(6, 17, wide), 1.0)
        y = self.activation(self.conv(x, wide, 1, threshold=self.threshold, gain=2.0))
        y = self.activation(self.conv(y, wide, 3, stride, groups=wide, gain=1.0 if self.without == "loud" else loud))
        y = self.conv(y, WIDTH, 1, gain=scale)
        return self.builder.node("Add", x, y) if stride == 1 and self.without != "additions" else y


def model(size: int, without: str = "") -> onnx.ModelProto:
    """(N, 3, size, size) -> (N, 100). `without` is one of `CAUSES`, or empty."""
    p = _Planter(without)
    b = p.builder
    x = image_input(b)
    x = x if without == "offset" else b.node("Add", x, b.constant(np.reshape(OFFSET, (3, 1, 1))))
    x = p.activation(p.conv(x, WIDTH, 3, 2))
    for stride, scale in zip(STRIDES, SCALES, strict=True):
        x = p.bottleneck(x, stride, scale)
    x = p.activation(p.conv(x, 8 * WIDTH, 1, threshold=p.threshold, gain=2.0))
    made = b.model("imbalanced", "input", (3, size, size), [(b.classifier(x, CLASSES), (CLASSES,))])
    return levelled(made, samples(made, 4, SEED), SEED, p.gains, p.thresholds)
