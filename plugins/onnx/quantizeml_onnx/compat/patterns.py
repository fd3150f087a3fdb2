"""Every line of operations the built-in rules take, to be printed: `{("Conv", "Relu"): "conv2d", ...}`. Of several rules for one line the first is
named. It is a picture; a change has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantizeml_core.builtin import GENERIC

from ..rules import builtin_rules

PATTERNS_MAP: Mapping[tuple[str, ...], str] = MappingProxyType({
    tuple(step.op for step in line): rule.name for rule in reversed(builtin_rules(GENERIC)) for line in rule.pattern.lines
})
