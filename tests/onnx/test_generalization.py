"""Sixteen samples calibrate; what counts is the seventeenth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantizeml.models import quantize
from quantizeml_core.api import quantize_model
from quantizeml_core.report import heads
from quantizeml_core.testing import decibels
from quantizeml_onnx.observe import session
from tests.support.onnx_text import network
from tests.support.onnx_text import quantize as quantize_file

DETECTORS = """(float[N,12,8,8] x) => (float[N,4,8,8] y)
<float[48,12,1,1] w, float[48] b, float[48,1,3,3] d, float[4,48,1,1] p> {
    a = Conv(x, w, b)  c = Clip(a, zero, six)  e = Conv <group = 48, pads = [1, 1, 1, 1]> (c, d)  f = Relu(e)  y = Conv(f, p)
}"""


def _detectors() -> Any:
    """Channels that answer to rare samples only, as those of trained networks do: a high threshold behind a random direction."""
    rng = np.random.default_rng(0)
    text = DETECTORS.replace("d, float[4", "d, float zero, float six, float[4")
    directions = rng.normal(size=(48, 12))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return network(text, w=3 * directions[..., None, None], b=rng.uniform(-6.5, -1, 48), d=rng.uniform(0, 0.3, (48, 1, 3, 3)), p=rng.normal(size=(4, 48, 1, 1)),
                   zero=np.float32(0), six=np.float32(6))


def _images(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 12, 1, 1)) + 0.3 * rng.normal(size=(count, 12, 8, 8))).astype(np.float32)


def _quality(model: Any, **settings: Any) -> float:
    held = {"x": _images(200, 1)}
    real, got = (session(m.SerializeToString()).run(None, held)[0] for m in (model, quantize(model, samples=_images(16, 0), **settings)))
    return decibels(real, got)


@pytest.fixture(scope="module")
def qualities() -> tuple[float, float]:
    """Decibels on unseen samples: with the margins that calibration finds, and without."""
    model = _detectors()
    bare = {name: {"output_quantizer": {"floor": 0.0, "headroom": 1.0}} for name in ("a", "e")}
    return _quality(model), _quality(model, q_config=bare)


def test_channels_that_few_samples_reached_hold_on_unseen_ones(qualities: tuple[float, float]) -> None:
    found, bare = qualities
    assert found > bare + 6.0


def test_the_summary_says_what_each_output_keeps(tmp_path: Path) -> None:
    model = network("(float[N,3,8,8] x) => (float[N,4,6,6] a, float[N,2,6,6] b) <float[4,3,3,3] w, float[2,3,3,3] v> { a = Conv(x, w) b = Conv(x, v) }")
    text = quantize_file(tmp_path, model)[1]
    assert re.search(r"quality +\d\d\.\d dB at a, \d\d\.\d dB at b \(16 of the calibration samples\)", text)


@pytest.mark.parametrize(("asked", "told"), [(2, 2), (5, 5), (10**6, 16)])
def test_as_many_samples_are_measured_as_asked_for_batch_by_batch(asked: int, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the network, and the same figure as of one batch."""
    model, x = network("(float[N,3,8,8] x) => (float[N,4,6,6] a) <float[4,3,3,3] w> { a = Conv(x, w) }"), np.random.default_rng(0).normal(size=(16, 3, 8, 8))
    whole = quantize_model(model, samples=x.astype(np.float32), measure=asked).heads
    monkeypatch.setattr(heads, "MACS", 1)
    assert quantize_model(model, samples=x.astype(np.float32)).heads == ()
    one_by_one = quantize_model(model, samples=x.astype(np.float32), measure=asked).heads
    assert one_by_one == whole and [head.samples for head in whole] == [told]
