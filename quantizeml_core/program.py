"""Program: ordered integer blocks, runnable by the numpy kernels, serialisable, checkable. The same integers in every frontend.

`run` is the specification. A saved program is one `.npz` archive: `program.json` (blocks, formats, edges) and the integer arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from . import numerics
from .blocks import ENTRIES, KINDS, MOVES, Block
from .errors import ModelError
from .files import atomic_write
from .kernels import IN_ORDER, KERNELS
from .memory import MEMORIES

#: Raised whenever an integer of an existing program would change.
NUMERICS_VERSION = 1


@dataclass(frozen=True)
class Format:
    """How the integers of a tensor are read: value = (q - zero_point) * step.

    Arguments:
        bits: 8, 4, 2 or 1; 32 for raw accumulators.
        signed: two's complement or not.
        step: float64, (C,) per channel or (1,).
        zero_point: (C,) or (1,), only at an unsigned model input.
    """

    bits: int
    signed: bool
    step: np.ndarray = field(compare=False)
    zero_point: np.ndarray | None = field(default=None, compare=False)

    @property
    def range(self) -> tuple[int, int]:
        return numerics.int_range(self.bits, self.signed)

    @property
    def dtype(self) -> np.dtype:
        """The numpy type that stores it: 8 bits or less in one byte (unsigned only at a model input), accumulators in int32."""
        if self.bits > 8:
            return np.dtype(np.int32)
        return np.dtype(np.uint8 if self.zero_point is not None and not self.signed else np.int8)


    def dequantize(self, integers: np.ndarray) -> np.ndarray:
        """float32(q - zero_point) * float32(step), as ONNX's DequantizeLinear; channels on axis 1."""
        shape = (1, -1, *(1,) * (integers.ndim - 2))
        offset = 0 if self.zero_point is None else self.zero_point.astype(np.int64).reshape(shape)
        return (integers.astype(np.int64) - offset).astype(np.float32) * self.step.astype(np.float32).reshape(shape)


@dataclass(frozen=True, eq=False)
class Program:
    """Integer blocks in topological order with the format of every tensor. Two programs are equal when they are one: what is proven of it can be kept beside it.

    Arguments:
        blocks: integer blocks; `input` blocks read the native model's inputs, `resume` blocks float tensors that the native model computes
            from outputs of the program (`islands`). Both are fed alike: each region between floats stands for itself.
        formats: format of every block output.
        outputs: tensors that leave the program, dequantized.
        shapes: channel-first shapes, batch as None.
    """

    blocks: tuple[Block, ...]
    formats: Mapping[str, Format]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int | None, ...]]

    @property
    def resumed(self) -> tuple[str, ...]:
        """The float tensors inside the native model that must be fed beside its inputs; empty for a program of one region."""
        return tuple(t for b in self.blocks if b.kind == "resume" for t in b.inputs)

    def trace(self, feeds: Mapping[str, np.ndarray], state: dict[str, np.ndarray] | None = None) -> Iterator[tuple[Block, np.ndarray]]:
        """Run block by block and yield (block, integers), integers stored in the tensor's own dtype.

        Arguments:
            state: by the name of each block with a memory (`memory`), what it remembers; it is replaced by what the next frame needs.
                A block that is not named begins a sequence.
        """
        values: dict[str, np.ndarray] = dict(feeds)
        kept = {} if state is None else state
        for block in self.blocks:
            arguments = [values[t] if block.kind in ENTRIES else values[t].astype(np.int64) for t in block.inputs]
            if block.name in kept:
                value, kept[block.name] = MEMORIES[block.kind].step(block, *arguments, _fitting(block, kept[block.name], arguments[0]))
            else:
                value = KERNELS[block.kind](block, *arguments)
            values[block.output] = value.astype(self.formats[block.output].dtype)
            yield block, values[block.output]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Integers of every block output. `feeds`: float arrays in the native layout, by name, of the model inputs and of `resumed`."""
        return {block.output: value for block, value in self.trace(feeds)}

    def sequence(self, feeds: Mapping[str, np.ndarray]) -> Iterator[tuple[Block, np.ndarray]]:
        """`trace` of a whole sequence at once: the rows of the feeds are its frames, in order. Without buffers there is no difference."""
        values: dict[str, np.ndarray] = dict(feeds)
        for block in self.blocks:
            arguments = [values[t] if block.kind in ENTRIES else values[t].astype(np.int64) for t in block.inputs]
            values[block.output] = IN_ORDER[block.kind](block, *arguments).astype(self.formats[block.output].dtype)
            yield block, values[block.output]

    def step(self, feeds: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """One frame of a sequence: integers of every block output, and the state for the next frame.

        Arguments:
            state: `initial_state`, or what the last step gave.
        """
        after = dict(state)
        values = {block.output: value for block, value in self.trace(feeds, after)}
        kinds = {block.name: block.kind for block in self.remembering()}
        return values, {name: kept.astype(MEMORIES[kinds[name]].dtype) for name, kept in after.items()}

    def remembering(self) -> tuple[Block, ...]:
        """The blocks with a memory, in order."""
        return tuple(b for b in self.blocks if b.kind in MEMORIES)

    def state_shape(self, block: Block) -> tuple[int | None, ...]:
        """What a block remembers of one sequence, None for an open size."""
        return MEMORIES[block.kind].shape(block, self.shapes[block.inputs[0]][1:])

    def initial_state(self, batch: int = 1) -> dict[str, np.ndarray]:
        """The state before the first frame of `batch` sequences: zeros. Empty for a program without a memory."""
        state = {}
        for block in self.remembering():
            shape = self.state_shape(block)
            if None in shape:
                raise ModelError(f"the size {tuple(self.shapes[block.inputs[0]][2:])} of its frames is open", where=f"`{block.name}`",
                                 do="Give input_shape when quantizing")
            state[block.name] = np.zeros((batch, *shape), MEMORIES[block.kind].dtype)
        return state

    def dequantize(self, tensor: str, integers: np.ndarray) -> np.ndarray:
        """Reals of a tensor's integers, float32."""
        return self.formats[tensor].dequantize(integers)

    def predict(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Dequantized outputs of the program."""
        values = self.run(feeds)
        return {name: self.dequantize(name, values[name]) for name in self.outputs}

    def verify(self) -> tuple[str, ...]:
        """Structural faults, one sentence each: unknown kinds, missing producers, weights outside their bits, arrays of a wrong type."""
        known: set[str] = {t for b in self.blocks if b.kind in ENTRIES for t in b.inputs}
        faults: list[str] = []
        for block in self.blocks:
            faults += _faults(block, known, self.formats)
            known.add(block.output)
        return (*faults, *(f"output `{t}` has no producer" for t in self.outputs if t not in known))

    def input_range(self, block: Block, index: int = 0) -> tuple[int, int]:
        """Range of the integers that can enter a block: 0.. after a ReLU, the whole type otherwise."""
        return reach(self, block.inputs[index])

    def to_json(self) -> dict[str, Any]:
        return {
            "numerics": NUMERICS_VERSION,
            "blocks": [b.to_json() for b in self.blocks],
            "formats": {t: {"bits": f.bits, "signed": f.signed} for t, f in self.formats.items()},
            "outputs": list(self.outputs),
            "shapes": {t: list(s) for t, s in self.shapes.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write one `.npz` archive atomically."""
        arrays = {f"{b.name}::{k}": v for b in self.blocks for k, v in b.arrays.items()}
        arrays |= {f"{t}::format::step": f.step for t, f in self.formats.items()}
        arrays |= {f"{t}::format::zero_point": f.zero_point for t, f in self.formats.items() if f.zero_point is not None}
        header = np.frombuffer(json.dumps(self.to_json()).encode(), np.uint8)
        with atomic_write(Path(path)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **{"program.json": header}, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read a saved program. No code is executed: pickled arrays are refused."""
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {k: archive[k] for k in archive.files}
            header = json.loads(arrays.pop("program.json").tobytes())
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ModelError(f"not a saved program ({error})", where=str(path), allowed="a file written by Program.save") from error
        if header["numerics"] != NUMERICS_VERSION:
            raise ModelError(f"numerics version {header['numerics']}", where=str(path), allowed=str(NUMERICS_VERSION), do="Quantize the model again")
        return _assemble(header, arrays)


def _fitting(block: Block, kept: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What a state holds of a block, proven to belong to x."""
    wanted = (len(x), *MEMORIES[block.kind].shape(block, x.shape[1:]))
    if kept.shape != wanted:
        raise ModelError(f"its state has the shape {kept.shape}", where=f"`{block.name}`", allowed=str(wanted),
                         do="Start with initial_state(batch)")
    return kept.astype(np.int64)


def reach(program: Program, tensor: str) -> tuple[int, int]:
    """Smallest and largest integer a tensor can hold: its format's range, non-negative when its producer ends in a ReLU, an entry of its table when it is looked up."""
    fmt = program.formats[tensor]
    producer = next(b for b in program.blocks if b.output == tensor)
    low, high = fmt.range
    if producer.kind in MOVES:
        parts = [reach(program, t) for t in producer.inputs]
        return min(p[0] for p in parts), max(p[1] for p in parts)
    if producer.kind == "lookup":
        return int(producer.arrays["entries"].min()), int(producer.arrays["entries"].max())
    return (0 if producer.activation and not producer.activation.is_table else low), high


def _assemble(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Program:
    def of(name: str) -> dict[str, np.ndarray]:
        return {k[len(name) + 2 :]: v for k, v in arrays.items() if k.startswith(name + "::") and "::format::" not in k}

    formats = {
        t: Format(f["bits"], f["signed"], arrays[f"{t}::format::step"], arrays.get(f"{t}::format::zero_point"))
        for t, f in header["formats"].items()
    }
    blocks = tuple(Block.from_json(b, of(b["name"])) for b in header["blocks"])
    return Program(blocks, formats, tuple(header["outputs"]), {t: tuple(s) for t, s in header["shapes"].items()})


def _faults(block: Block, known: set[str], formats: Mapping[str, Format]) -> list[str]:
    faults = [f"`{block.name}` reads `{t}`, which nothing writes" for t in block.inputs if t not in known]
    if block.kind not in KINDS:
        faults.append(f"`{block.name}` has the unknown kind `{block.kind}`")
    if block.output not in formats:
        faults.append(f"`{block.output}` has no format")
    faults += [f"`{block.name}` holds floats in `{k}`" for k, v in block.arrays.items() if v.dtype.kind == "f" and block.kind not in ENTRIES]
    multiplier = block.arrays.get("multiplier")
    if multiplier is not None and (multiplier.min(initial=0) < 0 or multiplier.max(initial=0) > 255):
        faults.append(f"`{block.name}` has a multiplier outside 0..255")
    return faults
