"""`quantizeml quantize`: from a float model file to an integer one. What cannot end well is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..params import QuantizationParams, resolve
from ..plugins import Registry
from . import options
from .naming import destination
from .output import progress, show, show_json, warn

PARAMS = ("input_weight_bits", "weight_bits", "activation_bits", "per_tensor_activations", "output_bits", "buffer_bits", "input_dtype",
          "last_output_bits")


@click.command("quantize")
@options.model
@click.option("-c", "--quantization_config", type=options.FILE, help="A configuration as `quantizeml config` writes it; its entries win.")
@click.option("-i", "--input_weight_bits", type=int, help="Weight bits of the first layer.  [default: the target's]")
@click.option("-w", "--weight_bits", type=int, help="Weight bits of the other layers.  [default: the target's]")
@click.option("-a", "--activation_bits", type=int, help="Activation bits.  [default: the target's]")
@click.option("-o", "--output_bits", type=int, help="Bits of outputs without activation.  [default: 8]")
@click.option("-b", "--buffer_bits", type=int, help="Upper limit for accumulator bits.  [default: the target's]")
@click.option("-lob", "--last_output_bits", type=int, help="Requantize the last layer to so many bits.  [default: keep its accumulator]")
@click.option("--per_tensor_activations", is_flag=True, default=None, help="One scale for all channels of an activation.")
@options.samples
@click.option("-ns", "--num_samples", type=int, callback=options.positive, default=1024, show_default=True,
              help="Random samples to draw when none are given.")
@click.option("-bs", "--batch_size", type=int, callback=options.positive, help="Samples to run at once, fewer where memory is short.")
@click.option("-e", "--epochs", type=int, callback=options.positive, default=1, show_default=True,
              help="How many times all samples are seen.")
@click.option("-s", "--save_name", type=options.FILE, help="Where to save.  [default: MODEL_i8_w8_a8, beside the model]")
@click.option("-qu", "--quantize_until", help="The tensor or node at which to stop.")
@options.input_shape
@click.option("-id", "--input_dtype", help="uint8 or int8.  [default: what suits the model]")
@options.target("generic", "The hardware whose rules hold; `quantizeml targets` lists them.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random samples.")
@click.option("--strict", is_flag=True, help="Partial quantization, or a limit of the target that stays broken, is an error.")
@click.option("--approximate", is_flag=True, help="Allow repairs for the target that are not exact; each is measured and reported.")
@click.option("--islands", is_flag=True, help="Go on behind operations that stay float, where it is worth it (ONNX).")
@click.option("--measure", type=int, callback=options.positive,
              help="Samples whose signal over error is told.  [default: 16, fewer or none for a large network]")
@options.as_json
def command(model: Path, target: str, save_name: Path | None, quantization_config: Path | None, as_json: bool, **flags: Any) -> None:
    """Quantize a model to integers.

    Without samples, calibration takes 1024 random ones: fine for a look, too little for accuracy.
    """
    registry = Registry.load()
    said = QuantizationParams(**{name: flags.pop(name) for name in PARAMS})
    params = resolve(said, registry.target(target))
    options.check_model_file(model, registry)
    config = options.read_json(quantization_config) if quantization_config else None
    path = destination(model, params, quantization_config, save_name)
    from .. import api
    from . import summary
    with progress() as report:
        result = api.quantize_model(model, qparams=said, q_config=config, target=target, progress=report, **flags)
        saved = result.save(path)
    facts = summary.Facts(model, saved, target, params)
    if as_json:
        warn(result.warnings)
        show_json(summary.as_json(result, facts))
    else:
        warn(summary.untold(result))
        show(*summary.as_text(result, facts))
