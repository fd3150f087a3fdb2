"""Configurations inside model files that Keras 3 refuses: of the generation before (tf_keras), and layers that hold code.

- arguments that Keras 3 has removed from a layer's constructor are taken out where they say what the layer does anyway; another value is refused;
- Lambda and TFOpLambda layers become the known function that they call (`functions`), or are refused.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from quantizeml_core.errors import ModelError

from .functions import as_known_function

#: Arguments that tf_keras wrote for layers that have none of them in Keras 3, and the values under which they change nothing.
STRAY = {
    ("DepthwiseConv2D", "groups"): (1,), ("DepthwiseConv1D", "groups"): (1,), ("SeparableConv2D", "groups"): (1,), ("SeparableConv1D", "groups"): (1,),
    ("Conv2DTranspose", "groups"): (1,), ("Conv1DTranspose", "groups"): (1,), ("Conv3DTranspose", "groups"): (1,),
}


def modernized(path: Path) -> None:
    """Rewrite the configuration inside a file in place. ModelError for an argument that cannot be left out."""
    with h5py.File(path, "r+") as file:
        text = file.attrs.get("model_config")
        if text is None:
            raise ModelError("the file holds weights, but no model", where=f"`{path.name}`", allowed="a file written by model.save",
                             do="Build the model, load the weights into it and save it whole")
        config = json.loads(text)
        if _cleaned(config):
            file.attrs["model_config"] = json.dumps(config)


def without_code(path: Path, copy: Path) -> Path:
    """A `.keras` archive, or a copy in which the layers that hold code are known functions."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        if not _cleaned(config):
            return path
        with zipfile.ZipFile(copy, "w") as written:
            for name in archive.namelist():
                written.writestr(name, json.dumps(config) if name == "config.json" else archive.read(name))
    return copy


def _cleaned(config: Any) -> bool:
    """Take stray arguments and code out; whether there were any."""
    found = False
    for layer in list(_layers(config)):
        found |= as_known_function(layer)
        for (kind, argument), harmless in STRAY.items():
            if layer["class_name"] == kind and argument in layer["config"]:
                _refuse(layer, argument, harmless)
                found = True
    return found


def _refuse(layer: dict[str, Any], argument: str, harmless: tuple[Any, ...]) -> None:
    value = layer["config"].pop(argument)
    if value not in harmless:
        raise ModelError(f"{argument}={value} of a {layer['class_name']} is not known to Keras 3", where=f"layer `{layer['config'].get('name')}`",
                         allowed=", ".join(map(str, harmless)), do="Rebuild the layer")


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Every layer's entry, those of nested models too."""
    if isinstance(config, dict):
        if "class_name" in config and isinstance(config.get("config"), dict):
            yield config
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers(value)
