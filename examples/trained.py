"""The trained networks of `models/` with their data, and the two figures of merit.

    accuracy   share of correct answers: argmax of several outputs, `> 0.5` of a single one
    sqnr       10 log10( sum f^2 / sum (f - q)^2 ) in dB, over all float outputs f and quantized outputs q
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
THREADS = 2
CALIBRATION_SAMPLES = 1024

Arrays = Mapping[str, np.ndarray]


def _raw(x: np.ndarray, _: Arrays) -> np.ndarray:
    return x.astype(np.float32)


def _normalised(x: np.ndarray, _: Arrays) -> np.ndarray:
    scaled = (x.astype(np.float32) / 255 - np.float32(0.1307)) / np.float32(0.3081)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _standardised(x: np.ndarray, data: Arrays) -> np.ndarray:
    return ((x - data["mean"]) / data["std"]).astype(np.float32)


@dataclass(frozen=True)
class Net:
    """A trained network: its name, the file of its data, and what is done to the raw samples before they enter it."""

    name: str
    data: str
    prepare: Callable[[np.ndarray, Arrays], np.ndarray]

    @property
    def path(self) -> Path:
        return HERE / "models" / f"{self.name}.onnx"

    @property
    def keras(self) -> Path:
        """The same network as written by Keras 3."""
        return HERE / "models" / f"{self.name}.keras"

    @property
    def h5(self) -> Path:
        """The same network as written by tf_keras."""
        return HERE / "models" / f"{self.name}_k2.h5"

    def samples(self, count: int = CALIBRATION_SAMPLES, seed: int | None = None) -> np.ndarray:
        """Calibration samples from the train part: the first `count` rows, or a seeded choice; all when there are fewer."""
        data = self._arrays()
        rows = data["x_train"] if seed is None else np.random.default_rng(seed).permutation(data["x_train"])
        return self.prepare(rows[:count], data)

    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """The test part: inputs as the network takes them, and labels (N,)."""
        data = self._arrays()
        return self.prepare(data["x_test"], data), data["y_test"]

    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """The whole train part: inputs as the network takes them, and labels (N,)."""
        data = self._arrays()
        return self.prepare(data["x_train"], data), data["y_train"]

    def _arrays(self) -> Arrays:
        with np.load(HERE / "data" / self.data) as file:
            return dict(file)


NETS: Mapping[str, Net] = {net.name: net for net in (
    Net("dscnn_mnist", "mnist5k.npz", _raw),
    Net("resnet_mnist", "mnist5k.npz", _raw),
    Net("mobilenetv2_mnist", "mnist5k.npz", _normalised),
    Net("mobilenetv2_mnist_bn", "mnist5k.npz", _normalised),
    Net("mobilenetv2_mnist_dynamo", "mnist5k.npz", _normalised),
    Net("mlp_breast_cancer", "breast_cancer.npz", _standardised),
)}


def session(model: str | Path | Any, threads: int = THREADS, precise: bool = False) -> Any:
    """An onnxruntime session on the CPU, with nothing registered, for a file or an `onnx.ModelProto`.

    Arguments:
        precise: on x86 without VNNI, byte products that do not saturate, slower. Our files need it nowhere, those of onnxruntime's quantizer do.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    content = str(model) if isinstance(model, (str, Path)) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(model: str | Path | Any, x: np.ndarray, batch: int = 100) -> np.ndarray:
    """First output of a model for all samples, in the batches that the model allows."""
    opened = session(model, precise=True)
    entry = opened.get_inputs()[0]
    size = entry.shape[0] if isinstance(entry.shape[0], int) else batch
    fed = x.astype(np.uint8) if entry.type == "tensor(uint8)" else x
    return np.concatenate([opened.run(None, {entry.name: fed[i:i + size]})[0] for i in range(0, len(fed), size)])


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of correct answers for outputs (N, classes), or (N, 1) with a probability."""
    answers = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
    return float(np.mean(answers == labels))


def sqnr(floats: np.ndarray, quantized: np.ndarray) -> float:
    """Signal to quantization noise ratio in dB, infinite when both are equal."""
    signal = floats.astype(np.float64)
    noise = np.sum((signal - quantized) ** 2)
    return float(10 * np.log10(np.sum(signal**2) / noise)) if noise else float("inf")
