"""Errors a user can act on.

Every message fills the same four slots in the same order: where it happened, what is the fact, what is allowed, what to do next.
A failure travels as a value (`match.Miss`, `report.Finding`) for as long as possible and becomes one of these at the outermost boundary.
"""

from __future__ import annotations


class QuantizeMLError(Exception):
    """A refusal with a reason. The CLI prints it on one line and exits with code 1.

    Arguments:
        what: the fact, as a full sentence without a final dot.
        where: the layer, file, flag or field concerned; empty when the sentence already names it.
        allowed: what would have been accepted.
        do: the next step for the user, as an imperative sentence.
    """

    def __init__(self, what: str, *, where: str = "", allowed: str = "", do: str = ""):
        self.what, self.where, self.allowed, self.do = what, where, allowed, do
        super().__init__(self.message())

    def message(self) -> str:
        """The four slots as one line of text."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        parts = [head, f"Allowed: {self.allowed}" if self.allowed else "", self.do]
        return ". ".join(part.rstrip(". ") for part in parts if part) + "."


class UsageError(QuantizeMLError):
    """Flags or arguments that contradict each other, the target or the model's kind. The CLI exits with code 2."""


class PluginError(QuantizeMLError):
    """A plugin that cannot be loaded, collides with another one, or brings an unknown hook."""


class SampleError(QuantizeMLError):
    """Calibration samples that cannot be used: NaN, wrong shape or dtype, empty."""


class ModelError(QuantizeMLError):
    """A model file or object that cannot be read, or in which nothing can be quantized."""
