"""Lambda layers: read from their functions in memory, recognised in files without running anything."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from examples.trained import NETS
from keras import layers, ops

from quantizeml.models import load_model
from quantizeml_core.api import quantize_model
from quantizeml_core.errors import ModelError
from quantizeml_core.testing import differences
from quantizeml_keras.functions import called_by
from quantizeml_keras.testing import boundaries

RESNET = NETS["resnet_mnist"]
ADDED = (["stem_pool", 0, 0], ["g1b1_c2_bn", 0, 0])
X = np.random.default_rng(8).normal(size=(12, 6, 6, 2)).astype("float32")


def net(*stack: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6, 6, 2), name="x"), layers.Conv2D(4, 3, name="conv"), *stack])


def shifted(x: Any) -> Any:
    return ops.relu(x) + 1.0


INSIDE: dict[str, Callable[[], keras.Model]] = {
    "relu": lambda: net(layers.Lambda(lambda v: ops.relu(v), name="act"), layers.Flatten(), layers.Dense(2)),
    "a named function": lambda: net(layers.Lambda(keras.activations.relu, name="act")),
    "reshape": lambda: net(layers.Lambda(lambda v: ops.reshape(v, (-1, 64)), name="flat"), layers.Dense(2)),
    "two operations": lambda: net(layers.Lambda(shifted, name="shifted"), layers.Conv2D(2, 1)),
    "add": lambda: _joined(lambda pair: pair[0] + pair[1]),
    "ops.add": lambda: _joined(lambda pair: ops.add(*pair)),
}


def _joined(function: Callable[[Any], Any]) -> keras.Model:
    x = keras.Input((6, 6, 2), name="x")
    pair = [layers.Conv2D(3, 1)(x), layers.Conv2D(3, 1)(x)]
    return keras.Model(x, layers.Lambda(function, output_shape=(6, 6, 3), name="join")(pair))


@pytest.mark.parametrize("case", INSIDE)
def test_functions_in_memory_are_read(case: str) -> None:
    model = INSIDE[case]()
    result = quantize_model(model, samples=X)
    assert result.blueprint.stops == ()
    assert differences(result.program, {"x": X}, lambda feeds: boundaries(result.model, feeds)) == ()
    floats = ops.convert_to_numpy(model(X))
    assert np.abs(ops.convert_to_numpy(result.model(X)) - floats).max() < 0.05 * np.abs(floats).max()  # 8 bits, three layers at most


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_known_code_in_a_file_is_recognised(tmp_path: Path, suffix: str) -> None:
    model = net(layers.Lambda(lambda v: keras.ops.relu(v), name="act"))
    model.save(tmp_path / f"net{suffix}")
    again = load_model(tmp_path / f"net{suffix}")
    assert np.array_equal(again(X), model(X)) and quantize_model(again, samples=X).blueprint.stops == ()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_other_code_in_a_file_is_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    model = net(layers.Lambda(lambda v: __import__("os").environ.update(RAN="yes") or v, output_shape=(4, 4, 4), name="evil"))
    model.save(tmp_path / f"net{suffix}")
    os.environ.pop("RAN", None)
    with pytest.raises(ModelError, match=r"`evil` \(Lambda\): the layer holds code.*Replace the Lambda"):
        load_model(tmp_path / f"net{suffix}")
    assert "RAN" not in os.environ


@pytest.mark.parametrize(("function", "name"), [
    (lambda v: ops.relu(v), "relu"), (lambda v: keras.activations.gelu(v), "gelu"), (lambda v: ops.relu(v) * 2, None), (lambda v: ops.exp(v), None),
    (lambda v, w: ops.add(v, w), None), (lambda v: ops.relu(ops.relu(v)), None), (lambda v: v, None),
])
def test_what_is_recognised(function: Any, name: str | None) -> None:
    assert called_by(function.__code__) == name


def test_tensorflow_functions_of_older_files(tmp_path: Path) -> None:
    """tf_keras writes a function between layers as a TFOpLambda whose inbound node is the call itself."""
    path = tmp_path / "old.h5"
    shutil.copy(RESNET.h5, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer |= CALLS.get(layer["name"], lambda name: {})(layer["name"])
        file.attrs["model_config"] = json.dumps(config)
    model, x = load_model(path), RESNET.test()[0][:8]
    assert np.array_equal(model.predict(x, verbose=0), load_model(RESNET.h5).predict(x, verbose=0))
    assert quantize_model(model, samples=x).blueprint.stops == ()


def function(kind: str, name: str, *node: object) -> dict[str, Any]:
    return {"class_name": "TFOpLambda", "config": {"name": name, "trainable": True, "dtype": "float32", "function": kind}, "inbound_nodes": [[*node]]}


CALLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "stem_relu": lambda name: function("nn.relu", name, "stem_bn", 0, 0, {"name": None}),
    "g1b1_add": lambda name: function("__operators__.add", name, *ADDED[0], {"y": ADDED[1], "name": None}),
}
