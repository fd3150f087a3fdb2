"""Finding: one thing worth telling about a model, as a value. Codes are stable and listed in docs/errors.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

SEVERITIES = ("error", "warning", "info")
"""Most severe first. An error means: the model is not what was asked for, or its target cannot run it."""

_ALWAYS = ("code", "severity", "block", "message", "hint")
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


@dataclass(frozen=True)
class Finding:
    """One fact about a block.

    Arguments:
        code: `QML` and three digits, or a plugin's own prefix.
        severity: one of `SEVERITIES`.
        block: the block concerned, empty for the whole model.
        message: the fact, with its numbers and the limit.
        hint: what to do about it.
        rule, value, limit, source: for a broken row of a target's tables, its name, what was found, what is allowed and where that is written.
        fix: for such a row, `exact` (done, and proven equal), `approximate` or `manual`.
    """

    code: str
    severity: str
    block: str
    message: str
    hint: str = ""
    rule: str = ""
    value: str = ""
    limit: str = ""
    source: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise UsageError(f"`{self.severity}` is no severity", where=f"finding `{self.code}`", allowed=", ".join(SEVERITIES),
                             do="Take one of them")

    def to_json(self) -> dict[str, str]:
        """The first five fields always, the others when there is something in them."""
        return {key: value for key, value in asdict(self).items() if value or key in _ALWAYS}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        return cls(**data)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Most severe first; otherwise in the order given."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def digest(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding for each fact: those that differ in their block only become one, which names the first block and counts the others."""
    groups: dict[Finding, list[str]] = {}
    for finding in ordered(findings):
        groups.setdefault(replace(finding, block=""), []).append(finding.block)
    return tuple(replace(fact, block=_several(blocks)) for fact, blocks in groups.items())


def table(findings: Iterable[Finding]) -> Table:
    """Findings for a terminal, most severe first."""
    from rich.table import Table
    from rich.text import Text
    view = Table("code", "block", "finding", "what to do", box=None, pad_edge=False)
    for finding in ordered(findings):
        view.add_row(Text(finding.code, _STYLES[finding.severity]), Text(finding.block), Text(finding.message), Text(finding.hint))
    return view


def _several(blocks: list[str]) -> str:
    return blocks[0] if len(blocks) == 1 else f"{blocks[0]} and {len(blocks) - 1} more"
