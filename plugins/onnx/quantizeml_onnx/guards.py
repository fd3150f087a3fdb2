"""What the integer blocks cannot take from an ONNX node, in words a user can act on.

Each guard is a function (view, node) -> None, or the reason of the refusal.
"""

from __future__ import annotations

import numpy as np

from quantizeml_core.blocks import Pool
from quantizeml_core.geometry import common_denominator
from quantizeml_core.match import Node
from quantizeml_core.patterns import Guard
from quantizeml_core.tables import SELU_ALPHA, SELU_SCALE

from .response import WIDEST
from .rewrites import bilinear
from .view import OnnxView, ints, operand, operands, present

UNBOUNDED = float(np.finfo(np.float32).max)
IDENTITY_CHANNELS = 2048
NO_SHAPE = "the shape of `{}` is not known: give the model an input shape"


def first(view: OnnxView, node: Node, *guards: Guard) -> str | None:
    """The first refusal among several guards."""
    return next((reason for guard in guards if (reason := guard(view, node))), None)


def constant_weights(view: OnnxView, node: Node) -> str | None:
    """Weight (input 1) and bias (input 2, optional) are constants."""
    names = {1: "weight", 2: "bias"}
    computed = [name for i, name in names.items() if present(node, i) and operand(view, node, i) is None]
    return f"its {computed[0]} is computed by the model, only a constant can be quantized" if computed else None


def two_dimensional(view: OnnxView, node: Node) -> str | None:
    rank = operand(view, node, 1).ndim
    return None if rank == 4 else f"it is a {rank - 2}-D convolution, only 2-D ones (N, C, H, W) can be quantized"


def dilations(view: OnnxView, node: Node) -> str | None:
    values = ints(node, "dilations", (1, 1))
    return None if set(values) <= {1} else f"its dilations are {_tuple(values)}, only 1 can be quantized"


def explicit_pads(view: OnnxView, node: Node) -> str | None:
    auto_pad = node.native.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID"):
        return f"its auto_pad is {auto_pad}, which cannot be made explicit while the input size is not known: give the model an input shape"
    pads = ints(node, "pads", ())
    return f"its pads {_tuple(pads)} are negative, which crops" if any(p < 0 for p in pads) else None


def convolution(view: OnnxView, node: Node) -> str | None:
    """Everything a convolution must be, whatever its groups."""
    return first(view, node, constant_weights, two_dimensional, explicit_pads)


def transposed(view: OnnxView, node: Node) -> str | None:
    """A transposed convolution of one group whose crop is known."""
    if _groups(node) != 1:
        return f"it has {_groups(node)} groups, only 1 can be quantized"
    if refusal := first(view, node, constant_weights, two_dimensional, dilations):
        return refusal
    if transposed_pads(view, node) is None:
        return "its pads are negative or hang on the output's size in a way that leaves their order open: export it with explicit pads"
    return None


def transposed_pads(view: OnnxView, node: Node) -> tuple[int, int, int, int] | None:
    """What is cropped: top, left, bottom, right, the output padding taken off the end; None when it is not known.

    Where the output's size is given instead, an even crop leaves no choice of what goes where.
    """
    if node.native.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not ints(node, "output_shape", ()):
        (top, left, bottom, right), (down, across) = ints(node, "pads", (0, 0, 0, 0)), ints(node, "output_padding", (0, 0))
        return None if min(top, left, bottom, right) < 0 else (top, left, bottom - down, right - across)
    before, after, weight = view.shape(node.inputs[0]), view.shape(node.outputs[0]), operand(view, node, 1)
    if before is None or after is None or None in (*before[2:], *after[2:]) or any(ints(node, "output_padding", ())):
        return None
    sizes = zip(ints(node, "strides", (1, 1)), before[2:], weight.shape[2:], after[2:], strict=True)
    totals = [stride * (size - 1) + kernel - out for stride, size, kernel, out in sizes]
    down, across = (t // 2 for t in totals)
    return (down, across, down, across) if all(t >= 0 and t % 2 == 0 for t in totals) else None


def not_depthwise(view: OnnxView, node: Node) -> str | None:
    """One group, or several that are not one channel and one filter each."""
    if _groups(node) != 1 and _weight_shape(view, node) is None:
        return f"it has {_groups(node)} groups and a weight computed by the model"
    return None if depthwise(view, node) else "it is a depthwise convolution"


def depthwise(view: OnnxView, node: Node) -> str | None:
    """Groups equal channels equal filters; a weight of shape (C, 1, kh, kw), C > 1."""
    shape, groups = _weight_shape(view, node), _groups(node)
    if shape and 1 < groups == shape[0] and shape[1] == 1:
        return None
    return f"it has {groups} groups and a weight computed by the model" if not shape else "it is no depthwise convolution"


def _groups(node: Node) -> int:
    return node.native.attributes.get_int("group", 1)


def _weight_shape(view: OnnxView, node: Node) -> tuple[int, ...]:
    weight = operand(view, node, 1)
    return () if weight is None else weight.shape


def max_pool(view: OnnxView, node: Node) -> str | None:
    """No dilation, two spatial dimensions, no index output; an image of a known size where the size is rounded up."""
    if node.native.attributes.get_int("ceil_mode", 0) and not _known_image(view, node):
        return NO_SHAPE.format(node.inputs[0])
    if len(ints(node, "kernel_shape", ())) != 2:
        return f"its window is {_tuple(ints(node, 'kernel_shape', ()))}, only 2-D pooling can be quantized"
    return first(view, node, dilations, explicit_pads)


def average_pool(view: OnnxView, node: Node) -> str | None:
    """What `max_pool` asks, on an image of a known size, and sums of a common denominator that fit 32 bits."""
    if not _known_image(view, node):
        return NO_SHAPE.format(node.inputs[0])
    if refusal := max_pool(view, node):
        return refusal
    counted, grown = node.native.attributes.get_int("count_include_pad", 0), pool_pads(view, node) != ints(node, "pads", (0, 0, 0, 0))
    if counted and grown:
        return "it counts padded pixels but not those that its ceil_mode adds, only all or none can be quantized"
    try:
        denominator, _ = common_denominator(view.shape(node.inputs[0])[2:], average_window(view, node))
    except ValueError as error:
        return f"{error}, which has no mean"
    return None if denominator < 2**23 else f"its windows count so many different numbers of pixels that their common denominator {denominator} leaves 32 bits"


def _known_image(view: OnnxView, node: Node) -> bool:
    shape = view.shape(node.inputs[0])
    return shape is not None and len(shape) == 4 and None not in shape[1:]


def pool_pads(view: OnnxView, node: Node) -> tuple[int, ...]:
    """Pads of a pooling; where its size is rounded up, with the pixels that its last windows lack. A window that begins behind the image is none."""
    pads = ints(node, "pads", (0, 0, 0, 0))
    if not node.native.attributes.get_int("ceil_mode", 0):
        return pads
    sizes = zip(view.shape(node.inputs[0])[2:], ints(node, "kernel_shape", ()), ints(node, "strides", (1, 1)), pads[:2], pads[2:], strict=True)
    return (*pads[:2], *(_rounded_up(*one) for one in sizes))


def _rounded_up(size: int, kernel: int, stride: int, begin: int, end: int) -> int:
    """The end pad with which rounding down gives as many windows as rounding up."""
    last = -(-(size + begin + end - kernel) // stride)
    last -= last * stride >= size + begin
    return max(end, last * stride + kernel - size - begin)


def average_window(view: OnnxView, node: Node) -> Pool:
    """The window of an AveragePool; padded pixels count only where there are some and the node says so."""
    pads = pool_pads(view, node)
    counted = bool(node.native.attributes.get_int("count_include_pad", 0)) or not any(pads)
    return Pool("avg", ints(node, "kernel_shape", (1, 1)), ints(node, "strides", (1, 1)), pads, counted)


def gathers_channels(view: OnnxView, node: Node) -> str | None:
    """Constant positions along the channels of an image."""
    shape, rank = view.shape(node.inputs[0]) if node.inputs else None, len(view.shape(node.outputs[0]) or ())
    if shape is None or len(shape) != 4 or rank != 4 or node.native.attributes.get_int("axis", 0) not in (1, -3):
        return "it takes elements along another axis than the channels of an image"
    if operand(view, node, 1) is None:
        return "the positions it takes are computed by the model"
    return None if shape[1] is not None else NO_SHAPE.format(node.inputs[0])


def global_pool(view: OnnxView, node: Node) -> str | None:
    """The number of averaged pixels is part of the scale: it must be known."""
    shape = view.shape(node.inputs[0])
    return None if shape and len(shape) == 4 and None not in shape[2:] else NO_SHAPE.format(node.inputs[0])


def image(view: OnnxView, node: Node) -> str | None:
    """An input (N, C, H, W) whose channels are known and few enough for a square kernel."""
    shape = view.shape(node.inputs[0])
    if shape is None or (len(shape) > 1 and shape[1] is None):
        return NO_SHAPE.format(node.inputs[0])
    if len(shape) != 4:
        return f"its input has {len(shape)} axes, alone it can be quantized on images (N, C, H, W) only"
    if shape[1] > IDENTITY_CHANNELS:
        return f"its input has {shape[1]} channels, alone it can be quantized up to {IDENTITY_CHANNELS}"
    return None


def clip(view: OnnxView, node: Node) -> str | None:
    """max(0, .) with a constant positive upper bound, or none."""
    low, high = clip_bounds(view, node)
    if low is None or high is None:
        return "its bounds are computed by the model, only constants can be quantized"
    if low == 0 < high:
        return None
    return f"it clips to [{low:g}, {high:g}], only a lower bound of 0 and an upper bound above it can be quantized"


def clip_bounds(view: OnnxView, node: Node) -> tuple[float | None, float | None]:
    """Lower and upper bound (attributes before opset 11, inputs since); None for a computed one, -inf and inf for absent ones."""
    return _bound(view, node, "min", 1, -np.inf), _bound(view, node, "max", 2, np.inf)


def _bound(view: OnnxView, node: Node, name: str, index: int, absent: float) -> float | None:
    if not present(node, index):
        value = node.native.attributes.get_float(name, absent)
    elif (constant := operand(view, node, index)) is None:
        return None
    else:
        value = float(constant.reshape(-1)[0])
    return float(absent) if abs(value) >= UNBOUNDED else value


def gelu(view: OnnxView, node: Node) -> str | None:
    mode = node.native.attributes.get_string("approximate", "none")
    return None if mode in ("none", "tanh") else f"its approximate is {mode!r}, only 'none' and 'tanh' can be quantized"


def hard_sigmoid(view: OnnxView, node: Node) -> str | None:
    """clip(a x + 1/2; 0, 1), a > 0."""
    alpha, beta = (node.native.attributes.get_float(k, default) for k, default in (("alpha", 0.2), ("beta", 0.5)))
    return None if alpha > 0 and beta == 0.5 else f"it is clip({alpha:g} x + {beta:g}), only a positive factor and 0.5 can be quantized"


def is_sixth(alpha: float) -> bool:
    """Up to float32's rounding of 1/6."""
    return abs(6 * alpha - 1) < 1e-6


def selu(view: OnnxView, node: Node) -> str | None:
    """With the constants of its paper, up to their rounding to float32."""
    for name, meant in (("alpha", SELU_ALPHA), ("gamma", SELU_SCALE)):
        if abs((found := node.native.attributes.get_float(name, meant)) - meant) > 1e-6:
            return f"its {name} is {found:g}, only {meant:.7g} can be quantized"
    return None


def celu(view: OnnxView, node: Node) -> str | None:
    alpha = node.native.attributes.get_float("alpha", 1.0)
    return None if alpha > 0 else f"its alpha is {alpha:g}, only positive ones can be quantized"


def swish(view: OnnxView, node: Node) -> str | None:
    alpha = node.native.attributes.get_float("alpha", 1.0)
    return None if alpha == 1 else f"its alpha is {alpha:g}, only 1 can be quantized"


def flatten(view: OnnxView, node: Node) -> str | None:
    """(N, ...) -> (N, everything else)."""
    shape, axis = view.shape(node.inputs[0]), node.native.attributes.get_int("axis", 1)
    if shape is None:
        return NO_SHAPE.format(node.inputs[0])
    return None if axis in (1, 1 - len(shape)) and len(shape) > 1 else f"it flattens from axis {axis}, only axis 1 can be quantized"


def gemm(view: OnnxView, node: Node) -> str | None:
    """alpha = beta = 1, transA = 0, transB = 1, constant weight (F, Cin) and bias."""
    attributes = node.native.attributes
    found = {k: attributes.get_int(k, 0) for k in ("transA", "transB")} | {k: attributes.get_float(k, 1.0) for k in ("alpha", "beta")}
    allowed = {"transA": 0, "transB": 1, "alpha": 1, "beta": 1}
    wrong = [f"{k} is {found[k]:g}, only {v} can be quantized" for k, v in allowed.items() if found[k] != v]
    return f"its {wrong[0]}" if wrong else first(view, node, constant_weights, gemm_bias)


def gemm_bias(view: OnnxView, node: Node) -> str | None:
    bias, filters = operand(view, node, 2), len(operand(view, node, 1))
    if bias is None or bias.shape in ((filters,), (1, filters)) or bias.size == 1:
        return None
    return f"its bias has shape {bias.shape}, only one value per filter ({filters},) can be quantized"


def same_shapes(view: OnnxView, node: Node) -> str | None:
    """Two different computed tensors of one known shape, batch aside."""
    if len(node.inputs) != 2:
        return "one operand is a constant, only the sum of two tensors can be quantized"
    a, b = (view.shape(t) for t in node.inputs)
    if node.inputs[0] == node.inputs[1]:
        return f"both operands are `{node.inputs[0]}`, only two different tensors can be quantized"
    if a is None or b is None or None in (*a[1:], *b[1:]):
        return NO_SHAPE.format(node.inputs[0 if a is None or None in a[1:] else 1])
    return None if a[1:] == b[1:] and len(a) > 1 else f"it adds shapes {a} and {b}, only equal ones can be quantized"


def product(view: OnnxView, node: Node) -> str | None:
    """Two computed tensors of one rank and known shapes, each axis but the batch equal or 1 in one of them."""
    if len(node.inputs) != 2:
        return "one operand is a constant, only the product of two tensors can be quantized"
    a, b = (view.shape(t) for t in node.inputs)
    if a is None or b is None or None in (*a[1:], *b[1:]):
        return NO_SHAPE.format(node.inputs[0 if a is None or None in a[1:] else 1])
    fit = len(a) == len(b) > 1 and a[0] == b[0] and all(m == n or 1 in (m, n) for m, n in zip(a[1:], b[1:], strict=True))
    return None if fit else f"it multiplies shapes {a} and {b}, only such of one rank, axes equal or 1, can be quantized"


WEIGHING = frozenset({"Add", "Concat", "Conv", "Flatten", "Gemm", "Mul", "Product", "TurnedProduct"})
"""Operations that go on with the output of a softmax."""


def softmax(view: OnnxView, node: Node) -> str | None:
    """Over the channels, and not at the end of the network, where a float reads it."""
    shape, axis = view.shape(node.inputs[0]) or (), node.native.attributes.get_int("axis", -1)
    if len(shape) not in (2, 4) or axis % len(shape) != 1:
        return "it is no softmax over the channels"
    goes_on = any(n.op in WEIGHING for n in view.consumers(node.outputs[0]))
    return None if goes_on else "a softmax is quantized inside a network only, in front of a product, a sum or a layer with weights"


def channel_concat(view: OnnxView, node: Node) -> str | None:
    """Two computed tensors, side by side on axis 1."""
    axis, shape = node.native.attributes.get_int("axis", 1), view.shape(node.outputs[0])
    if shape is None:
        return NO_SHAPE.format(node.outputs[0])
    if axis not in (1, 1 - len(shape)):
        return f"it joins along axis {axis}, only channels (axis 1) can be quantized"
    count = len(operands(node))
    if count == len(node.inputs) == 2:
        return None
    return f"it joins {count} tensors ({len(node.inputs)} computed), only two computed ones can be quantized"


def to_last(view: OnnxView, node: Node) -> str | None:
    """Channels first to channels last."""
    return None if ints(node, "perm", ()) == (0, 2, 3, 1) else "it is no transposition from channels first to channels last"


def to_first(view: OnnxView, node: Node) -> str | None:
    """Channels last to channels first."""
    return None if ints(node, "perm", ()) == (0, 3, 1, 2) else "it is no transposition from channels last to channels first"


def response(node: Node) -> tuple[int, float, float, float]:
    """Size, alpha, beta and bias of an LRN."""
    attributes = node.native.attributes
    alpha, beta, bias = (attributes.get_float(name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return attributes.get_int("size", 1), alpha, beta, bias


def local_response(view: OnnxView, node: Node) -> str | None:
    """A local response normalization of an image that has an integer form."""
    size, alpha, beta, bias = response(node)
    if len(view.shape(node.inputs[0]) or ()) != 4:
        return "it normalizes something else than an image"
    if beta != 0.75:
        return f"its exponent is {beta:g}, only 0.75 has an integer form"
    if alpha <= 0 or bias <= 0:
        return f"its alpha is {alpha:g} and its bias {bias:g}, both must be positive"
    return None if size <= WIDEST else f"it sums over {size} channels, at most {WIDEST} are exact"


def bare(view: OnnxView, node: Node) -> str | None:
    """A layer normalization over the last of four axes whose gamma is one and whose beta is absent."""
    gamma, axis = operand(view, node, 1), node.native.attributes.get_int("axis", -1)
    if axis not in (-1, 3) or len(view.shape(node.inputs[0]) or ()) != 4:
        return "it normalizes over other axes than the channels of an image"
    return None if gamma is not None and (gamma == 1).all() and not present(node, 2) else "its scale and bias could not be taken out"


#: Modes of a nearest Resize that repeat each pixel, whatever the whole factor: (coordinate_transformation_mode, nearest_mode).
REPEATING = frozenset({
    ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"), ("pytorch_half_pixel", "round_prefer_ceil"), ("tf_half_pixel_for_nn", "floor"),
})


def repeats(view: OnnxView, node: Node) -> str | None:
    """Nearest neighbour, whole factors in height and width, each pixel repeated."""
    mode, *modes = (node.native.attributes.get_string(name, default) for name, default in (
        ("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel"), ("nearest_mode", "round_prefer_floor")))
    if mode != "nearest":
        return f"its mode is {mode}, only nearest can be quantized, and linear by whole factors up to {bilinear.LARGEST} (half_pixel or asymmetric)"
    factors = resize_factors(view, node)
    if factors is None:
        return "its factors are not whole numbers in height and width of images of a known size"
    halved = tuple(modes) == ("asymmetric", "round_prefer_floor") and max(factors) <= 2
    fits = tuple(modes) in REPEATING or halved
    return None if fits else f"it picks pixels by {modes[0]} and {modes[1]}, only repeated ones can be quantized"


def resize_factors(view: OnnxView, node: Node) -> tuple[int, int] | None:
    """Whole factors (h, w) of a Resize on images, None when it has others."""
    before, after = view.shape(node.inputs[0]), view.shape(node.outputs[0])
    if len(node.inputs) != 1 or before is None or after is None or len(before) != 4 or None in (*before[1:], *after[1:]):
        return None
    ratios = [divmod(new, old) for old, new in zip(before[1:], after[1:], strict=True)]
    scales = operand(view, node, 2)
    exact = scales is None or scales.size == 0 or all(float(s).is_integer() for s in scales)
    whole = exact and all(quotient >= 1 and rest == 0 for quotient, rest in ratios) and ratios[0][0] == 1
    return (ratios[1][0], ratios[2][0]) if whole else None


def _tuple(values: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, values)) + ")"
