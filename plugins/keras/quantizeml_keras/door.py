"""What the registry calls when the first Keras model arrives: the framework starts here, quietly."""

from __future__ import annotations

from typing import Any

from .quiet import quiet_start


def frontend() -> Any:
    """A `frontend.KerasFrontend`."""
    with quiet_start():
        from .frontend import KerasFrontend

    return KerasFrontend()
