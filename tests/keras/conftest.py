"""This room needs Keras and a backend; without them the rest of the suite runs alone."""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if find_spec("keras") is None:
    collect_ignore_glob = ["test_*.py"]
