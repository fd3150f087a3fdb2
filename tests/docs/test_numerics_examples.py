"""The examples of docs/numerics.md give what they say."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_every_example_of_the_normative_text_runs() -> None:
    failures, examples = doctest.testfile(str(Path(__file__).parents[2] / "docs" / "numerics.md"), module_relative=False)
    assert failures == 0 and examples >= 15
