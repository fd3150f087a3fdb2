"""The layers are written on keras.ops: another backend than TensorFlow gives the same integers, before and after training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLICE = Path(__file__).with_name("other_backend.py")


@pytest.mark.parametrize("backend", ["jax"])
def test_the_same_integers_on_another_backend(backend: str) -> None:
    done = subprocess.run([sys.executable, str(SLICE)], env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{backend} agrees on 7 blocks"
