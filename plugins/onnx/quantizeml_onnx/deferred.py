"""The frontend, imported without the algebra that onnx_ir needs for computed sizes only: sympy's modules run when a size is computed, not before.

sympy takes longer to import than everything else here together, and no network of known sizes asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from typing import Any

#: sympy, and the module of onnx_ir that names its functions when it runs.
DEFERRED = ("sympy", "onnx_ir._symbolic_shapes")


class _Deferring(MetaPathFinder):
    """Finds what the path has, to be run at its first use (`importlib.util.LazyLoader`)."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in DEFERRED else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def _deferring() -> Iterator[None]:
    finder = _Deferring()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _deferring():
    from .frontend import OnnxFrontend

__all__ = ["OnnxFrontend"]
