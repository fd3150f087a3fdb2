"""The toolkit's verbs: quantize, check, dump a configuration, load and save. The only module, with the CLI, that reads the plugin registry.

    float model -> survey (frontend) -> blueprint -> observe -> decide -> solve -> bake -> program -> realize (frontend) -> quantized model
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .bake import Quantization, bake
from .blocks import ENTRIES
from .blueprint import Blueprint
from .calibration import Range
from .centre import centre
from .correct import correct, lookup_errors
from .decide import decide, input_signed
from .entry import fold_entry
from .errors import ModelError, UsageError
from .hooks import Batch, Change, Frontend, InputShape, Survey
from .load import Load, load
from .match import stop_message
from .numerics import Floats
from .observing import Progress, input_errors, observe, observed, tap_observers
from .params import QuantizationParams, resolve
from .patterns import scoped_rules
from .plan import Plan
from .plugins import Registry
from .program import Program
from .report.findings import Finding
from .report.fitting import Fitting, fitted, illegal, sentence
from .report.heads import Head, inspect_heads, measure_heads
from .report.inspect import inspect_config, inspect_program, inspect_widened
from .report.overflow import Accumulator, accumulators
from .rounding import adapt
from .samples import Samples
from .scheme import Exact
from .solve import solve
from .target import Target

BATCH_SIZE = 32
RANDOM_WARNING = (
    "No samples were given: calibration used {count} random ones (seed {seed}). The file shows that the network fits; for its accuracy, "
    "give real samples with -sa/--samples."
)


@dataclass(frozen=True)
class Result:
    """A quantized model and everything known about how it came to be.

    Arguments:
        model: the native quantized model.
        program, plan, blueprint: the integer program, the decisions, and what was covered.
        findings: what is worth telling.
        warnings: one sentence each.
        changes: rewrites of the float network, done or refused.
        load: what calibration took.
        heads: what each output keeps on a few calibration samples; empty where that would take long.
    """

    model: Any
    program: Program
    plan: Plan
    blueprint: Blueprint
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    frontend: Frontend
    changes: tuple[Change, ...] = ()
    load: Load = Load(0, 0)
    heads: tuple[Head, ...] = ()

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the model, whole or not at all."""
        return self.frontend.save(self.model, Path(path))

    def files(self, path: Path) -> tuple[Path, ...]:
        """The files of a model that was saved at `path`."""
        several = getattr(self.frontend, "files", None)
        return (path,) if several is None else several(path)


def quantize_model(
    model: Any, *, qparams: QuantizationParams | None = None, q_config: Mapping[str, Any] | None = None, samples: Any = None,
    num_samples: int = 1024, batch_size: int | None = None, epochs: int = 1, quantize_until: str | None = None,
    input_shape: InputShape = None, target: str | Target = "generic", seed: int = 0, strict: bool = False, approximate: bool = False,
    islands: bool = False, measure: int | None = None, progress: Progress | None = None,
) -> Result:
    """Quantize a float model; see `quantizeml.models.quantize` for the other arguments.

    Arguments:
        measure: samples on which the integers are compared with the float network; by default 16, fewer for a network of more than 3 million multiplications, none
            above 50 million.

    Raises:
        UsageError: contradictory parameters, unknown target, layer or tensor, before any work.
        ModelError: nothing can be quantized, or `strict` and something cannot.
        SampleError: samples that cannot be used.
    """
    registry = Registry.load()
    chosen = registry.target(target)
    params = resolve(qparams, chosen)
    frontend = registry.frontend_for(model)

    def read() -> tuple[Samples, Survey]:
        """In a function of its own: a model from a file goes when it has been read, its weights live on once."""
        native = load_model(model, registry) if isinstance(model, (str, PathLike)) else model
        if frontend.program(native) is not None:
            raise ModelError("the model is quantized already", do="Quantize the float model again, with another configuration")
        feed = _samples(frontend, native, samples, num_samples, seed, input_shape)
        return feed, _survey(registry, frontend, native, chosen, quantize_until, _sample_shape(feed, input_shape), params.input_dtype, islands=islands)

    feed, survey = read()
    _refuse_partial(survey.blueprint, strict)
    fitting = fit(registry, fold_entry(survey.blueprint), chosen, params, approximate)
    _refuse_illegal(fitting, strict)
    blueprint = fitting.legal.blueprint
    taps = tap_observers(blueprint, params, q_config, fitting.legal.ranges)
    tapped = {observer.block.inputs[0] for observer in taps.values()}
    weight = load(blueprint, observed(blueprint, fitting.legal.ranges, tapped), batch_size or BATCH_SIZE)
    ranges = observe(frontend, survey, blueprint, feed, weight, epochs, progress, taps, fitting.legal.ranges)
    plan = decide(blueprint, ranges, params, chosen).merged(q_config)
    check_plan(plan, chosen)
    covariances = {name: observer.covariance for name, observer in taps.items()}
    made = _integers(blueprint, plan, ranges, covariances, feed, weight.rows, chosen)
    _refuse_overflow(made)
    quantized = frontend.realize(survey, made)
    heads = measure_heads(frontend, survey, made.program, feed, measure, progress)
    findings = (*fitting.findings(), *inspect_widened(made.solutions, plan), *inspect_heads(heads, blueprint, plan), *inspect_program(made.program, chosen, plan),
                *registry.findings(made.program, chosen, frontend.name))
    warnings = (*_warnings(feed, blueprint, quantize_until, num_samples, seed), *_unmeasured(measure, heads))
    return Result(quantized, made.program, plan, blueprint, findings, warnings, frontend,
                  (*survey.changes, *fitting.legal.changes), weight, heads)


def fit(registry: Registry, blueprint: Blueprint, target: Target, params: QuantizationParams, approximate: bool = False) -> Fitting:
    """What of a float network the target does not run, and the network made legal where that is exact, or nearly so when it is allowed."""
    unsigned = frozenset(b.output for b in blueprint.blocks if b.kind in ENTRIES and not input_signed(b, blueprint, params))
    return fitted(blueprint, target, unsigned, registry.legalizations(target), approximate)


def _refuse_illegal(fitting: Fitting, strict: bool) -> None:
    if strict and (left := fitting.left):
        raise ModelError(sentence(left[0]), where=f"--strict, `{left[0].block or 'network'}`", allowed=left[0].limit,
                         do=f"`quantizeml check` lists all {len(left)}; leave --strict out to quantize nevertheless")


def _refuse_overflow(made: Quantization) -> None:
    """An accumulator into which a block's weights fit only without their bits."""
    for name, solution in made.solutions.items():
        layer = made.plan.layers[name]
        if solution.widened and solution.widened >= (layer.weight_bits or 8) - 1:
            raise ModelError(f"its {layer.weight_bits}-bit weights could overflow {layer.buffer_bits} bits, and no bit of them is left when they cannot",
                             where=f"`{name}`", do="Use a wider accumulator (-b/--buffer_bits), a smaller layer, or cut the network before it")


def _integers(blueprint: Blueprint, plan: Plan, ranges: Mapping[str, Range], covariances: Mapping[str, Floats], samples: Samples, batch_size: int,
              target: Target) -> Quantization:
    """Centre, solve, round, correct, bake. Centring makes biases large: it is left out where a bias has a short mantissa and would lose more than is won."""
    config, mantissa = plan.to_json(), target.bias_mantissa_bits
    if mantissa is None:
        blueprint, plan, ranges = centre(blueprint, plan, ranges, target.can("pad_value"))
    solutions = solve(blueprint, plan, ranges, Exact(target.can("add.alike")))
    blueprint = adapt(blueprint, plan, solutions, covariances, {t: r.mean for t, r in ranges.items()})
    errors = input_errors(blueprint, solutions, samples, batch_size) | lookup_errors(blueprint, solutions, ranges)
    corrected = correct(blueprint, plan, solutions, ranges, errors)
    return Quantization(bake(corrected, plan, solutions, mantissa), corrected, plan, solutions, config, mantissa)


def survey_model(model: Any, *, target: str | Target | None = None, input_shape: InputShape = None) -> Survey:
    """What of a float model would be quantized, before any sample: its blueprint with blocks, coverage and stops."""
    registry, chosen, frontend, native = _opened(model, target)
    return _survey(registry, frontend, native, chosen, None, input_shape, None)


def check_model(model: Any, *, target: str | Target | None = None, samples: Any = None, input_shape: InputShape = None) -> tuple[Finding, ...]:
    """What is inexact, saturated or not allowed in a quantized model; for a float model, how far it can be quantized.

    Arguments:
        target: the hardware whose rules hold, `generic` when None.
        samples: observed on a quantized model to count saturated outputs; random ones when None.
        input_shape: shape of one sample when the model leaves it open and no samples tell it.
    """
    registry, chosen, frontend, native = _opened(model, target)
    program = frontend.program(native)
    if program is None:
        told = input_shape if samples is None else _sample_shape(_samples(frontend, native, samples, 1, 0, None), input_shape)
        return _check_float(registry, frontend, native, chosen, told)
    feed = _samples(frontend, native, samples, 64, 0, input_shape)
    known = inspect_config(frontend.plan(native) or {})
    broken = illegal(program, chosen)
    seen = inspect_program(program, chosen, None, _entering(frontend, native, program, feed, 64), feed.is_random)
    return (*broken, *seen, *known, *registry.findings(program, chosen, frontend.name))


def _opened(model: Any, target: str | Target | None) -> tuple[Registry, Target, Frontend, Any]:
    registry = Registry.load()
    chosen, frontend = registry.target(target or "generic"), registry.frontend_for(model)
    return registry, chosen, frontend, load_model(model, registry) if isinstance(model, (str, PathLike)) else model


def _check_float(registry: Registry, frontend: Frontend, model: Any, target: Target, shape: InputShape) -> tuple[Finding, ...]:
    """Where quantization would stop, and every row of the target's tables that is broken, behind the stops too."""
    survey = _survey(registry, frontend, model, target, None, shape, None, through=True)
    stops = tuple(Finding("QML001", "warning", stop.node, stop_message(stop), "Add a pattern, or replace the operation") for stop in survey.blueprint.stops)
    return stops + fit(registry, fold_entry(survey.blueprint), target, resolve(None, target)).findings()


def prove(model: Any, *, target: str | Target | None = None, samples: Any = None, input_shape: InputShape = None) -> tuple[Accumulator, ...]:
    """The overflow proof of a quantized model, block by block; empty for a float one.

    Arguments:
        target: whose accumulators count, `generic` when None.
        samples: run to see how many bits are used; random ones when None.
        input_shape: shape of a random sample when the model leaves it open.
    """
    _, chosen, frontend, native = _opened(model, target)
    if (program := frontend.program(native)) is None:
        return ()
    feed = _samples(frontend, native, samples, 64, 0, input_shape)
    return accumulators(program, chosen, _entering(frontend, native, program, feed, BATCH_SIZE))


def _entering(frontend: Frontend, model: Any, program: Program, samples: Samples, count: int) -> Batch:
    """What the entries of a quantized model's program read for the first `count` samples: the model's inputs, and what it computes in float between."""
    batch = next(iter(samples.batches(count)))
    return batch if not program.resumed else {**batch, **_ability(frontend, "resumed", f"{frontend.name} models", "ONNX models")(model, batch)}


def dump_config(model: Any) -> dict[str, Any]:
    """The configuration a quantized model was made with: what `config.json` holds."""
    plan = Registry.load().frontend_for(model).plan(model)
    if plan is None:
        raise ModelError("the model carries no configuration: it is not quantized", do="Quantize it first, then dump its configuration")
    return dict(plan)


def load_model(path: Any, registry: Registry | None = None) -> Any:
    """The native model in a file, float or quantized."""
    return (registry or Registry.load()).frontend_for(path).load(Path(path))


def save_model(model: Any, path: str | PathLike[str]) -> Path:
    """Write a native model, whole or not at all, and return its final path."""
    return Registry.load().frontend_for(model).save(model, Path(path))


FORMATS = ("akida", "onnxruntime")


def export(model: Any, path: str | PathLike[str], format: str = "akida") -> Path:
    """Write the program inside a quantized model in another format: the frontend that reads the suffix of `path` writes it.

    Arguments:
        format: `akida`, the converter's node contract, or `onnxruntime`, plain operators on bytes that run fastest on a CPU.

    ModelError when the model is not quantized, or not whole; UsageError when nobody can write a program in that format.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format `{format}`", where="--format", allowed=", ".join(FORMATS))
    registry = Registry.load()
    source, writer = registry.frontend_for(model), registry.frontend_for(path)
    build = _ability(writer, "from_program", f"files like `{Path(path).name}`", ".onnx")
    native = load_model(model, registry) if isinstance(model, (str, PathLike)) else model
    program = source.program(native)
    if program is None:
        raise ModelError("the model is not quantized", do="Quantize it first, then export it")
    deploy = _ability(writer, "deploy", f"files like `{Path(path).name}`", ".onnx") if format == "onnxruntime" else None
    if deploy and source.name == writer.name:
        return writer.save(deploy(native), Path(path))
    if left := getattr(source, "float_layers", lambda _: ())(native):
        raise ModelError(f"`{left[0]}` computes in float", where="export", allowed="a model that is quantized whole",
                         do="Quantize up to it with quantize_until, or remove it from the model")
    built = build(program, source.plan(native) or {})
    return writer.save(deploy(built) if deploy else built, Path(path))


def sanitize(model: Any) -> Any:
    """The float model as it is quantized: simplified by rewrites that are proven equal."""
    frontend = Registry.load().frontend_for(model)
    return _ability(frontend, "sanitize", f"{frontend.name} models", "keras models")(model)


def insert_rescaling(model: Any, scale: float, offset: float) -> Any:
    """A float model that computes `input * scale + offset` first."""
    frontend = Registry.load().frontend_for(model)
    return _ability(frontend, "insert_rescaling", f"{frontend.name} models", "keras models")(model, scale, offset)


def replace_conv3d(model: Any) -> Any:
    """A causal float model over clips as the model that streams their frames."""
    frontend = Registry.load().frontend_for(model)
    return _ability(frontend, "replace_conv3d", f"{frontend.name} models", "keras and onnx models")(model)


def to_hardware_forms(model: Any) -> Any:
    """A float transformer with the normalizations and the softmax of the hardware."""
    frontend = Registry.load().frontend_for(model)
    return _ability(frontend, "to_hardware_forms", f"{frontend.name} models", "keras models")(model)


def learn_steps(model: Any) -> Any:
    """A copy of a quantized model whose training changes its weight steps too."""
    frontend = Registry.load().frontend_for(model)
    return _ability(frontend, "learn_steps", f"{frontend.name} models", "keras models")(model)


def calibrate(model: Any, quantized: Any, **settings: Any) -> Result:
    """Quantize a float model again, by the configuration of a quantized one but for its ranges, with the samples in `settings`."""
    config = {name: _without_range(entry) for name, entry in dump_config(quantized).items()}
    return quantize_model(model, q_config=config, **{"islands": _has_islands(quantized), **settings})


def _has_islands(quantized: Any) -> bool:
    program = Registry.load().frontend_for(quantized).program(quantized)
    return program is not None and bool(program.resumed)


def _without_range(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(entry)
    if isinstance(kept.get("output_quantizer"), Mapping):
        kept["output_quantizer"] = {key: value for key, value in kept["output_quantizer"].items() if key not in ("range", "floor", "headroom")}
    return kept


def _ability(frontend: Frontend, name: str, what: str, allowed: str) -> Callable[..., Any]:
    """An optional method of a frontend; UsageError when it has none."""
    method = getattr(frontend, name, None)
    if method is None:
        raise UsageError(f"{name} is not made for {what}", allowed=allowed, do="Give such a one")
    return method


def check_plan(plan: Plan, target: Target) -> None:
    """Refuse widths and axes that a user's configuration may have brought in against the target."""
    for name, layer in plan.layers.items():
        allowed = sorted({*target.weight_bits, *target.input_weight_bits})
        if layer.weight_bits is not None and layer.weight_bits not in allowed:
            raise UsageError(f"{layer.weight_bits}-bit weights", where=f"`{name}`", allowed=", ".join(map(str, allowed)))
        outputs = sorted({*target.activation_bits, 8})
        if layer.output_bits is not None and layer.output_bits not in outputs:
            raise UsageError(f"a {layer.output_bits}-bit output", where=f"`{name}`", allowed=", ".join(map(str, outputs)))
        if layer.per_axis and not target.per_axis_activations:
            raise UsageError(f"target `{target.name}` has one scale for all channels of a tensor", where=f"`{name}`", allowed="axis: per-tensor")


def _survey(registry: Registry, frontend: Frontend, model: Any, target: Target, until: str | None, shape: InputShape,
            input_dtype: str | None, through: bool = False, islands: bool = False) -> Survey:
    rules = (*scoped_rules(), *registry.rules(frontend.name, target))
    rewrites = registry.rewrites(frontend.name, target)
    survey = frontend.survey(model, target=target, rules=rules, rewrites=rewrites, until=until, input_shape=shape, input_dtype=input_dtype,
                             through=through, islands=islands)
    _refuse_not_finite(survey.blueprint)
    if all(b.kind in ENTRIES for b in survey.blueprint.blocks):
        reasons = " ".join(stop_message(stop) for stop in survey.blueprint.stops[:3])
        raise ModelError("no layer can be quantized", do=reasons or "Give a model with a convolution or a dense layer")
    return survey


def _refuse_not_finite(blueprint: Blueprint) -> None:
    for block in blueprint.blocks:
        for name, array in block.arrays.items():
            low = 0.0 if name == "mask" and array.size and array.min() == -np.inf else array.min(initial=0.0)
            if not np.isfinite((low, array.max(initial=0.0))).all():
                raise ModelError(f"its {name} holds NaN or infinity", where=f"`{block.name}`", allowed="finite numbers", do="Train or export it again")


def _samples(frontend: Frontend, model: Any, samples: Any, count: int, seed: int, input_shape: InputShape) -> Samples:
    specs = frontend.inputs(model)
    return Samples.random(specs, count, seed, input_shape) if samples is None else Samples.of(samples, specs, count)


def _sample_shape(samples: Samples, input_shape: InputShape) -> InputShape:
    """Shape of one sample, of several inputs by name; what the user did not say and the model leaves open is known from the samples."""
    if input_shape or len(samples.specs) == 1:
        return input_shape or tuple(samples.shapes[samples.specs[0].name])
    return {spec.name: samples.shapes[spec.name] for spec in samples.specs if None in spec.shape[1:]} or None


def _refuse_partial(blueprint: Blueprint, strict: bool) -> None:
    if strict and blueprint.stops:
        raise ModelError(stop_message(blueprint.stops[0]), where="--strict", allowed="a model that is quantized whole", do="Leave --strict out, or add a pattern")


def _unmeasured(wanted: int | None, heads: Sequence[Head]) -> tuple[str, ...]:
    told = "The integers were not measured: no output depends on them and the samples alone, without earlier frames or floats in between."
    return (told,) if wanted and not heads else ()


def _warnings(samples: Samples, blueprint: Blueprint, until: str | None, count: int, seed: int) -> tuple[str, ...]:
    random = (RANDOM_WARNING.format(count=count, seed=seed),) if samples.is_random else ()
    stops = () if until else tuple(stop_message(stop) for stop in blueprint.stops)
    return (*random, *stops)
