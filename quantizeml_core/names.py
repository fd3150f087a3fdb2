"""Names of our own beside those of a user's network: the wanted one, or the first free one with a number behind it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count


class Names:
    """Hands out names that are not taken, each once."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)

    def __call__(self, wanted: str) -> str:
        chosen = next(name for name in chain((wanted,), (f"{wanted}_{i}" for i in count(1))) if name not in self.taken)
        self.taken.add(chosen)
        return chosen
