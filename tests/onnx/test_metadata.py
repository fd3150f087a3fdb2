"""The configuration in a file: what is kept comes back, and damage is told."""

from __future__ import annotations

import base64
import json
import lzma

import onnx
import pytest

from quantizeml_core.errors import ModelError
from quantizeml_onnx import metadata

RANGE = [0.1, -1e-30, 0.30000001192092896]
CONFIG = {"conv": {"output_quantizer": {"bitwidth": 8, "range": [RANGE, RANGE]}}}


def model(kept: str | None = None) -> onnx.ModelProto:
    made = onnx.ModelProto()
    if kept is not None:
        made.metadata_props.add(key=metadata.CONFIG_KEY, value=kept)
    return made


def test_a_configuration_comes_back_to_the_last_digit() -> None:
    made = model()
    metadata.keep(made, CONFIG)
    assert metadata.config(made) == CONFIG
    assert metadata.config(model()) is None


@pytest.mark.parametrize("kept", ["", "{}", base64.b64encode(b"{}").decode(), base64.b64encode(lzma.compress(json.dumps(CONFIG).encode())[:-8]).decode(),
                                  base64.b64encode(lzma.compress(b"{")).decode()])
def test_a_damaged_configuration_is_told(kept: str) -> None:
    with pytest.raises(ModelError, match="Quantize the float model again"):
        metadata.config(model(kept))
