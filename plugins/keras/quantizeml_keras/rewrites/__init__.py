"""Rewrites: float networks simplified until rules can match them. Each proposal is proven equal in float64 before it is kept (`driver`)."""

from __future__ import annotations

from .driver import Edit, Rewrite, sanitize
from .folding import FOLDING
from .gates import GATES
from .moves import MOVES
from .padding import PADDING

BUILTIN: tuple[Rewrite, ...] = (*MOVES, *PADDING, *GATES, *FOLDING)

__all__ = ["BUILTIN", "Edit", "Rewrite", "sanitize"]
