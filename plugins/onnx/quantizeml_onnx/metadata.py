"""The configuration in a file's metadata: its JSON without blanks, as xz, as base64. The ranges of a tensor return in every concatenation that reads it, and shrink to a fifth."""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import helper

from quantizeml_core.errors import ModelError

CONFIG_KEY = "quantizeml.config"
PRESET = 1
"""Of xz: the sixth is a sixth smaller and takes six times as long."""


def keep(model: onnx.ModelProto, config: Mapping[str, Any]) -> None:
    """Write a configuration into a file's metadata, in place of all that is there."""
    text = json.dumps(config, separators=(",", ":")).encode()
    helper.set_model_props(model, {CONFIG_KEY: base64.b64encode(lzma.compress(text, preset=PRESET)).decode()})


def config(model: onnx.ModelProto) -> dict[str, Any] | None:
    """The configuration in a file's metadata, None when it has none. ModelError where it is damaged."""
    kept = next((p.value for p in model.metadata_props if p.key == CONFIG_KEY), None)
    if kept is None:
        return None
    try:
        found: dict[str, Any] = json.loads(lzma.decompress(base64.b64decode(kept, validate=True), lzma.FORMAT_XZ))
        return found
    except (ValueError, lzma.LZMAError) as e:
        raise ModelError(f"the configuration is damaged ({e})", where=f"metadata `{CONFIG_KEY}`", do="Quantize the float model again") from e
