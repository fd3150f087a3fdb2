"""The peers: onnxruntime's static quantizer, in this environment, and the reference implementation, in its own.

    python -m benchmarks.peers MODEL SAMPLES.npz OUT

runs onnxruntime's quantizer from a fresh process, as a user's script would, and prints the seconds it took after its imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

REFERENCE = "quantizeml 1.2.5"
CALIBRATION_BATCH = 64
REFERENCE_FLAGS: Mapping[str, tuple[str, ...]] = {"mlp_breast_cancer": ("-id", "int8")}
"""The reference takes uint8 input unless told otherwise, and dies on a dense first layer with it."""


def quantize_with_onnxruntime(model: Path, samples: np.ndarray, out: Path) -> Path:
    """Static QDQ: MinMax calibration, uint8 activations per-tensor, int8 weights per-channel, after onnxruntime's own pre-processing
    (without symbolic shapes, which change no figure here and cost half a second).

    Everything else is onnxruntime's default, so all operations it knows are quantized, and the model's input too.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(out), Batches(model, samples), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax)
    return out


class Batches:
    """Samples (N, ...) as the reader that onnxruntime's calibration asks for, in the batch size that the model allows."""

    def __init__(self, model: Path, samples: np.ndarray) -> None:
        import onnx
        entry = onnx.load(str(model)).graph.input[0]
        size = entry.type.tensor_type.shape.dim[0].dim_value or CALIBRATION_BATCH
        self._batches: Iterator[dict[str, np.ndarray]] = ({entry.name: samples[i:i + size]} for i in range(0, len(samples), size))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def reference_script() -> Path | None:
    """The reference's command line as `peer_env.sh` installs it, None when it does not stand."""
    script = Path(os.environ.get("QUANTIZEML_PEER_VENV", "build/peer-venv")).resolve() / "bin" / "quantizeml"
    return script if script.exists() else None


def reference_command(script: Path, model: Path, samples: Path, out: Path, flags: Sequence[str] = ()) -> list[str]:
    return [str(script), "quantize", "-m", str(model), "-sa", str(samples), "-s", str(out), *flags]


def reference_environment() -> Mapping[str, str]:
    """The caller's environment without its Python path, which would put our package before the reference's."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def quantize_with_reference(model: Path, samples: Path, out: Path, flags: Sequence[str] = ()) -> Path | None:
    """Runs the reference's command line; None when it is not installed or refuses the model or the flags."""
    script = reference_script()
    if script is None:
        return None
    done = subprocess.run(reference_command(script, model, samples, out, flags), env=reference_environment(), capture_output=True)
    return out if done.returncode == 0 and out.exists() else None


def quiet_onnxruntime() -> None:
    """Errors only: its pre-processing warns once for every constant it folds."""
    import logging

    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    logging.disable(logging.WARNING)


def main(model: str, samples: str, out: str) -> None:
    import onnx  # noqa: F401 - imported before the clock starts, as the next two
    import onnxruntime.quantization  # noqa: F401
    import onnxruntime.quantization.shape_inference  # noqa: F401
    quiet_onnxruntime()
    with np.load(samples) as file:
        arrays = np.concatenate([file[name] for name in file.files])
    start = time.perf_counter()
    quantize_with_onnxruntime(Path(model), arrays, Path(out))
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
