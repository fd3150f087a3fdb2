"""Small questions to a node or a graph, under the names that old callbacks use. A node is an `onnx.NodeProto` or one of `layers`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantizeml_core.errors import UsageError


def get_field(node: Any, name: str, default: Any = None) -> Any:
    """The value of an attribute; `default`, or UsageError without one, when it is absent."""
    if has_field(node, name):
        return _fields(node)[name]
    if default is None:
        raise UsageError("the attribute is not there", where=f"`{node.name}`.{name}", allowed=", ".join(_fields(node)))
    return default


def has_field(node: Any, name: str) -> bool:
    return name in _fields(node)


def replace_field(node: Any, name: str, value: Any) -> None:
    """Sets an attribute that is there already."""
    if not has_field(node, name):
        raise UsageError("the attribute is not there", where=f"`{node.name}`.{name}", allowed=", ".join(_fields(node)))
    if not isinstance(node, onnx.NodeProto):
        node.attributes[name] = value
        return
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, to_field(name, value)])


def to_field(name: str, value: Any) -> onnx.AttributeProto:
    """An attribute from a Python value."""
    return helper.make_attribute(name, value)


def get_variable(name: str, graph: onnx.GraphProto) -> np.ndarray:
    """An initializer by name; UsageError when there is none."""
    found = next((i for i in graph.initializer if i.name == name), None)
    if found is None:
        raise UsageError("it is no initializer", where=f"`{name}`", allowed="the name of a constant of the simplified graph")
    return numpy_helper.to_array(found)


def get_node(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """A node by name, None when there is none."""
    return next((n for n in graph.node if n.name == name), None)


def _fields(node: Any) -> dict[str, Any]:
    if isinstance(node, onnx.NodeProto):
        return {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return dict(node.attributes)
