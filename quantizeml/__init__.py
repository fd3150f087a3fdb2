"""The import surface of the user guide: `quantizeml.models`, `quantizeml.layers`, `quantizeml.tensors`. The work is in `quantizeml_core`.

BrainChip's own distribution `quantizeml` installs into this package too; with both installed, files of one overwrite files of the other, so
the import is refused.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import load_model, save_model

__all__ = ["load_model", "save_model"]


def _refuse_clash() -> None:
    try:
        other = version("quantizeml")
    except PackageNotFoundError:
        return
    raise ImportError(f"BrainChip's distribution `quantizeml` {other} and `quantizeml-core` are both installed, and both own the package "
                      "`quantizeml`. Keep one: `pip uninstall quantizeml quantizeml-core`, then install the one you want. "
                      "Two virtual environments hold both.")


_refuse_clash()


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import models
        return getattr(models, name)
    raise AttributeError(f"module `quantizeml` has no attribute `{name}`")
