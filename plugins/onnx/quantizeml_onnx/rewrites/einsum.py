"""An Einsum of two computed tensors that is a product of matrices becomes one, its operands and its result transposed where they must be.

    Einsum(x, y; "bqhd,bkhd->bhqk") = MatMul(Transpose(x; b h q d), Transpose(y; b h d k))
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import attribute, dims
from .model import Expression, Op, Proposal, Refusal, Rewrite


def rewrite(node: ir.Node) -> Proposal | Refusal | None:
    """Letters of both and of the result are batches, one letter of both alone is summed, one of each is a row or a column."""
    inputs, _, out = attribute(node, "equation", "").replace(" ", "").partition("->")
    words = inputs.split(",")
    if len(words) != 2 or len(node.inputs) != 2 or not out or any(len(set(word)) != len(word) or not word.isalpha() for word in (*words, out)):
        return Refusal(f"`{inputs}->{out}` is no product of two tensors")
    x, y = words
    shared = [c for c in out if c in x and c in y]
    summed, rows, columns = ([c for c in word if keep(c)] for word, keep in (
        (x, lambda c: c in y and c not in out), (x, lambda c: c not in y), (y, lambda c: c not in x)))
    if [len(summed), len(rows), len(columns)] != [1, 1, 1] or set(out) != {*shared, *rows, *columns}:
        return Refusal(f"`{inputs}->{out}` is no product of matrices")
    left, right = _as(node.inputs[0], x, [*shared, *rows, *summed]), _as(node.inputs[1], y, [*shared, *summed, *columns])
    return Proposal((node,), _turned(Op("MatMul", (left, right)), [*shared, *rows, *columns], out), extent="true")


def _as(value: ir.Value, word: str, wanted: list[str]) -> Expression:
    perm, shape = tuple(word.index(c) for c in wanted), dims(value)
    if perm == tuple(range(len(perm))):
        return value
    return Op("Transpose", (value,), {"perm": perm}, shape=None if shape is None else tuple(shape[i] for i in perm))


def _turned(product: Op, word: list[str], wanted: str) -> Op:
    perm = tuple(word.index(c) for c in wanted)
    return product if perm == tuple(range(len(perm))) else Op("Transpose", (product,), {"perm": perm})


REWRITE = Rewrite("einsum_to_matmul", rewrite, ("Einsum",))
