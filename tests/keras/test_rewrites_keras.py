"""Rewrites are proposals: one that changes a value is found out and not done, with the reason; what was done is listed."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
from keras import layers

from quantizeml_core.match import Node
from quantizeml_keras.graph import Graph, changed
from quantizeml_keras.rewrites import BUILTIN, Edit, Rewrite, sanitize
from quantizeml_keras.trace import trace


def traced(*stack: layers.Layer) -> Graph:
    keras.utils.set_random_seed(0)
    return trace(keras.Sequential([keras.Input((8, 8, 2), name="x"), *stack]))


def almost(graph: Graph, node: Node) -> Edit | None:
    """Moves one weight by a millionth."""
    if node.op != "Conv2D" or "moved" in node.native:
        return None
    kernel = np.asarray(node.native["kernel"], np.float64) + 1e-6
    return Edit((node,), (replace(changed(node, kernel=kernel, moved=True)),))


def test_a_rewrite_that_changes_values_is_refused() -> None:
    before = traced(layers.Conv2D(3, 3, name="conv"))
    after, (change,) = sanitize(before, [Rewrite("almost", almost)])
    assert after is before and (change.rewrite, change.node) == ("almost", "conv") and "it would change values by" in change.refused


def test_what_was_done_is_listed() -> None:
    graph, changes = sanitize(traced(layers.ZeroPadding2D(1), layers.Conv2D(3, 3, name="conv"), layers.BatchNormalization(name="bn"), layers.ReLU()), BUILTIN)
    assert [n.op for n in graph.nodes()] == ["Conv2D", "ReLU"]
    assert [(c.rewrite, c.node, c.refused) for c in changes] == [("fold_zero_padding", "conv", ""), ("fold_batch_normalization", "bn", "")]


def test_a_maximum_is_not_moved_behind_what_turns_it_around() -> None:
    net = keras.Sequential([keras.Input((8, 8, 2), name="x"), layers.Conv2D(2, 3), layers.MaxPooling2D(2), layers.BatchNormalization(name="bn")])
    net.get_layer("bn").gamma.assign([1.0, -1.0])
    graph, (change,) = sanitize(trace(net), BUILTIN)
    assert [n.op for n in graph.nodes()] == ["Conv2D", "MaxPool", "Affine"] and "maximum would become a minimum" in change.refused
