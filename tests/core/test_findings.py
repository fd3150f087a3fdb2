"""Findings are values: JSON round trip, order, severity."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from quantizeml_core.errors import UsageError
from quantizeml_core.report.findings import Finding, digest, has_errors, ordered, table

INFO = Finding("QML301", "info", "", "one block has a slower body")
ERROR = Finding("QML101", "error", "conv_1", "accumulator needs 33 bits", "widen the weight scale")
WARNING = Finding("QML201", "warning", "dense_1", "weight scale error [3.1 %]", "try weight_bits=8")


def test_json_round_trip() -> None:
    assert Finding.from_json(ERROR.to_json()) == ERROR


def test_most_severe_first() -> None:
    assert ordered([INFO, WARNING, ERROR]) == (ERROR, WARNING, INFO)


@pytest.mark.parametrize(("findings", "expected"), [((), False), ((INFO, WARNING), False), ((INFO, ERROR), True)])
def test_has_errors(findings: tuple[Finding, ...], expected: bool) -> None:
    assert has_errors(findings) is expected


def test_unknown_severity() -> None:
    with pytest.raises(UsageError, match="error, warning, info"):
        Finding("QML1", "fatal", "", "")


def test_digest_counts_the_blocks_of_one_fact() -> None:
    same = [replace(WARNING, block=f"dense_{i}") for i in range(3)]
    assert digest([*same, ERROR]) == (ERROR, replace(WARNING, block="dense_0 and 2 more"))


def test_table_shows_text_as_it_is() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(table([WARNING, ERROR]))
    text = out.getvalue()
    assert text.index("QML101") < text.index("QML201") and "[3.1 %]" in text
