"""Proof by evaluation: both sides of a rewrite, in float64, on random and boundary inputs.

    |before - after| <= 4 * eps * work * peak          eps = 2^-53

`peak` bounds every product and partial sum met on either side, `work` counts the roundings on the longest path of both together. Each
rounding errs by at most eps * peak, so evaluations of formulas equal in real numbers differ by at most eps * work * peak to first order;
4 covers the higher orders and the rounding of folded weights in float64. A wrong formula misses this bound by ten orders of magnitude.
A folded weight is compared unrounded: its one rounding to the type of the file comes after the proof.

The rows of a batch are: zeros, ordinary data (normal), boundaries (signed bounds, small integers and the constants of the subgraph itself)
and large signed data. The seed is fixed: the same model gives the same verdict. Images are shrunk to a little more than the kernel when
equality does not depend on their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .evaluate import Traced, Unprovable, evaluate, trace, trace_rows
from .graph import attribute, attributes, dims, exact, is_constant, stored
from .kernels import CHUNK
from .model import Expression, Op, Proposal

EPS = 2.0 ** -53
BOUNDARY = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0, 127.0, -128.0, 255.0)
LARGE = 1e4
ELEMENTS = 64
BIG_INPUT = 1 << 19
ROWS = 2
"""Size of the batch where not every input has it first."""
DOMAINS = frozenset({"", "quantizeml"})

Environment = dict[ir.Value, Traced]


@dataclass(frozen=True)
class Verdict:
    """Equal, or why not."""

    reason: str = ""

    @property
    def equal(self) -> bool:
        return not self.reason


def prove(proposal: Proposal) -> Verdict:
    """Whether both sides of a proposal compute the same."""
    try:
        feeds = _feeds(proposal)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return next((v for feed in feeds if not (v := _compare(*_both(proposal, feed))).equal), Verdict())
    except Unprovable as error:
        return Verdict(f"it cannot be proven equal: {error} is not known to the evaluator")
    except (ValueError, IndexError, TypeError) as error:
        return Verdict(f"it cannot be evaluated: {error}")


def _both(proposal: Proposal, feed: Environment) -> tuple[Traced, Traced]:
    if proposal.witness:
        before, after = proposal.witness
        return _express(before, dict(feed)), _express(after, dict(feed))
    env = dict(feed)
    _run(proposal.context, env, proposal.snap)
    after = _express(proposal.replacement, dict(env))
    _run(proposal.nodes, env, proposal.snap)
    return env[proposal.nodes[-1].outputs[0]], after


def _run(nodes: Iterable[ir.Node], env: Environment, snap: tuple[float, ...]) -> None:
    for node in nodes:
        if node.domain not in DOMAINS:
            raise Unprovable(f"operation {node.domain}::{node.op_type}")
        inputs = [None if v is None else _leaf(v, env, snap) for v in node.inputs]
        for index, output in enumerate(node.outputs if node.op_type == "Split" else node.outputs[:1]):
            several = {"output": index, "outputs": len(node.outputs)} if node.op_type == "Split" else {}
            env[output] = evaluate(node.op_type, inputs, {**_snapped(attributes(node), snap), **several})


def _express(expression: Expression, env: Environment) -> Traced:
    if isinstance(expression, Op):
        inputs = [None if i is None else _express(i, env) for i in expression.inputs]
        return evaluate(expression.op, inputs, expression.attributes)
    return _leaf(expression, env) if isinstance(expression, ir.Value) else _constant(expression)


def _leaf(value: ir.Value, env: Environment, snap: tuple[float, ...] = ()) -> Traced:
    if value not in env:
        if not is_constant(value):
            raise Unprovable(f"tensor `{value.name}`")
        array = stored(value)
        if snap and array.size == 1:
            array = np.full(array.shape, _snap(float(array.reshape(-1)[0]), snap))
        env[value] = _constant(array)
    return env[value]


def _constant(array: np.ndarray) -> Traced:
    return trace(exact(array) if array.size <= CHUNK else array)


def _snap(value: float, meant: tuple[float, ...]) -> float:
    return next((m for m in meant if np.float32(m) == np.float32(value)), value)


def _snapped(found: Mapping[str, object], snap: tuple[float, ...]) -> dict[str, object]:
    return {k: _snap(v, snap) if isinstance(v, float) else v for k, v in found.items()}


def _compare(before: Traced, after: Traced) -> Verdict:
    a, b = before.array, after.array
    if a.shape != b.shape:
        return Verdict(f"it is not equal: its output has shape {b.shape} instead of {a.shape}")
    if a.dtype.kind != "f":
        return Verdict("" if np.array_equal(a, b) else "it is not equal: its integers differ")
    endless = ~np.isfinite(a)
    if endless.all() and a.size or not np.array_equal(a[endless], b[endless]) or not np.isfinite(b[~endless]).all():
        return Verdict("it cannot be proven equal: its constants give values that are not finite")
    a, b = (np.where(endless, 0.0, v) for v in (a, b)) if endless.any() else (a, b)
    worst, bound = _rows(np.abs(a - b)), 4 * EPS * (before.work + after.work) * np.maximum(before.peak, after.peak)
    if worst.shape != np.shape(bound):
        worst, bound = worst.max(initial=0.0), np.max(bound)
    if (worst <= bound).all():
        return Verdict()
    row = int(np.argmax(worst - bound))
    return Verdict(f"it is not equal: outputs differ by up to {np.ravel(worst)[row]:.3g}, rounding explains {np.ravel(bound)[row]:.1g}")


def _rows(difference: np.ndarray) -> np.ndarray:
    """The largest entry of each row of the batch."""
    return difference.max(axis=tuple(range(1, difference.ndim)), initial=0.0)


# ---- inputs

def _feeds(proposal: Proposal) -> list[Environment]:
    free = _free(proposal)
    if not free:
        return [{}]  # constants only
    shapes = {v: _small(v, proposal) for v in free}
    pool, rng = _boundaries(proposal), np.random.default_rng(0)
    kinds = ("normal", "boundary") if any(np.prod(s[1:]) > BIG_INPUT for s in shapes.values()) else ("zeros", "normal", "boundary", "large")
    first = all(s and s[0] == 0 for s in shapes.values())
    rows = [{v: _row(kind, tuple(d or (1 if first else ROWS) for d in s), pool, rng) for v, s in shapes.items()} for kind in kinds]
    if first:
        return [{v: trace_rows(np.concatenate([r[v] for r in rows])) for v in shapes}]
    return [{v: trace(a) for v, a in r.items()} for r in rows]


def _free(proposal: Proposal) -> list[ir.Value]:
    """Computed values that the subgraph reads from outside, in order of first use."""
    if proposal.witness:
        return list(dict.fromkeys(_leaves(proposal.witness[0])))
    nodes = (*proposal.context, *proposal.nodes)
    inner = {v for n in nodes for v in n.outputs}
    return list(dict.fromkeys(v for n in nodes for v in n.inputs if v is not None and v not in inner and not is_constant(v)))


def _leaves(op: Op) -> list[ir.Value]:
    found: list[ir.Value] = []
    for i in op.inputs:
        found += _leaves(i) if isinstance(i, Op) else [i] if isinstance(i, ir.Value) and not is_constant(i) else []
    return found


def _small(value: ir.Value, proposal: Proposal) -> tuple[int, ...]:
    """Shape of a test input; an open axis, the batch, is 0. Smaller than the real one where the proposal allows."""
    if proposal.extent == "element":
        return (0, ELEMENTS)
    shape = dims(value)
    if shape is None or shape.count(None) > 1:
        raise ValueError(f"the shape of `{value.name}` is not known, give the model an input shape")
    if proposal.extent == "any" and len(shape) == 4:
        shape = (*shape[:2], *(min(d, w) for d, w in zip(shape[2:], _reach(proposal), strict=True)))
    return tuple(d or 0 for d in shape)


def _reach(proposal: Proposal) -> tuple[int, int]:
    """A little more than one window of each node together: kernel extents plus strides, so that borders, inside and steps are all met."""
    size = [2, 2]
    for node in (*proposal.context, *proposal.nodes):
        weight = dims(node.inputs[1]) if node.op_type == "Conv" else None
        kernel = attribute(node, "kernel_shape", weight[2:] if weight and len(weight) == 4 else (1, 1))
        if len(kernel) == 2:
            grown = zip(size, kernel, attribute(node, "strides", (1, 1)), attribute(node, "dilations", (1, 1)), strict=True)
            size = [s + (k - 1) * d + t - 1 for s, k, t, d in grown]
    return size[0], size[1]


def _boundaries(proposal: Proposal) -> np.ndarray:
    """Values at which a clip, a kink or a sign may change: fixed ones, the small constants of the subgraph and their negatives."""
    found = [float(c.reshape(-1)[0]) for n in (*proposal.context, *proposal.nodes) for v in n.inputs
             if v is not None and (c := stored(v)) is not None and c.size == 1]
    own = [c for c in found if np.isfinite(c) and abs(c) < LARGE]
    return np.array([*BOUNDARY, *own, *(-c for c in own)])


def _row(kind: str, shape: tuple[int, ...], pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    makers = {
        "zeros": lambda: np.zeros(shape),
        "normal": lambda: rng.standard_normal(shape),
        "boundary": lambda: rng.choice(pool, shape),
        "large": lambda: LARGE * rng.standard_normal(shape),
    }
    return makers[kind]()
