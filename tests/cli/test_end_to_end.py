"""The installed script on real networks: the files it writes, what it says, and bad input, of which nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = Path(sys.executable).with_name("quantizeml")


def quantizeml(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("QUANTIZEML_")}
    return subprocess.run([SCRIPT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=environ)


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    """A folder with a trained network and its calibration samples."""
    data = np.load(EXAMPLES / "data/breast_cancer.npz")
    shutil.copy(EXAMPLES / "models/mlp_breast_cancer.onnx", tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", ((data["x_train"] - data["mean"]) / data["std"]).astype(np.float32))
    return tmp_path


def convolution(path: Path, last: str = "Relu") -> Path:
    """A channel-first network of one convolution, an operation, and a dense layer."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,8,8] x) => (float[N,2] y) {{
        c = Conv <pads = [1,1,1,1], kernel_shape = [3,3]> (x, w)
        r = {last} (c)
        f = Flatten (r)
        y = Gemm <transB = 1> (f, v)
    }}"""
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(5)
    for name, shape in {"w": (4, 3, 3, 3), "v": (2, 256)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32), name))
    onnx.save(model, path)
    return path


def test_the_guides_road(mlp: Path) -> None:
    done = quantizeml("quantize", "-m", "net.onnx", "-i", 8, "-w", 8, "-a", 8, "-sa", "samples.npz", "-bs", 128, "-e", 2, cwd=mlp)
    assert (done.returncode, done.stderr) == (0, "")
    assert "net.onnx -> net_i8_w8_a8.onnx" in done.stdout and "coverage" in done.stdout
    session = onnxruntime.InferenceSession(mlp / "net_i8_w8_a8.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    (outputs,) = session.run(None, {name: np.load(mlp / "samples.npz")["arr_0"][:4].astype(np.float32)})
    assert len(outputs) == 4


def test_configuration_there_and_back(mlp: Path) -> None:
    assert quantizeml("quantize", "-m", "net.onnx", "-sa", "samples.npz", cwd=mlp).returncode == 0
    assert quantizeml("config", "-m", "net_i8_w8_a8.onnx", "-o", "same.json", cwd=mlp).returncode == 0
    done = quantizeml("quantize", "-m", "net.onnx", "-sa", "samples.npz", "-c", "same.json", cwd=mlp)
    assert (done.returncode, done.stderr) == (0, "")
    config = json.loads((mlp / "same.json").read_text())
    assert json.loads(quantizeml("config", "-m", "net_same.onnx", cwd=mlp).stdout) == config
    (mlp / "typo.json").write_text(json.dumps({next(iter(config)) + "x": {"buffer_bitwidth": 32}}))
    done = quantizeml("quantize", "-m", "net.onnx", "-sa", "samples.npz", "-c", "typo.json", cwd=mlp)
    assert done.returncode == 2 and next(iter(config)) in done.stderr


def test_random_samples_are_called_what_they_are(tmp_path: Path) -> None:
    convolution(tmp_path / "net.onnx")
    done = quantizeml("quantize", "-m", "net.onnx", "-ns", 8, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.startswith("Warning: No samples were given: calibration used 8 random ones")


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    convolution(tmp_path / "net.onnx")
    for name in ("a", "b"):
        assert quantizeml("quantize", "-m", "net.onnx", "-ns", 8, "--seed", 3, "-s", name, cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_partial_quantization_says_where_and_why(tmp_path: Path) -> None:
    convolution(tmp_path / "net.onnx", last="Sin")
    done = quantizeml("quantize", "-m", "net.onnx", "-ns", 8, "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and [stop["op"] for stop in told["stops"]] == ["Sin"] and "(Sin)" in done.stderr
    strict = quantizeml("quantize", "-m", "net.onnx", "-ns", 8, "--strict", "-s", "strict", cwd=tmp_path)
    assert strict.returncode == 1 and "(Sin)" in strict.stderr and not (tmp_path / "strict.onnx").exists()


def test_check_of_a_quantized_network(mlp: Path) -> None:
    assert quantizeml("quantize", "-m", "net.onnx", "-sa", "samples.npz", cwd=mlp).returncode == 0
    done = quantizeml("check", "-m", "net_i8_w8_a8.onnx", "-sa", "samples.npz", "--json", cwd=mlp)
    assert done.returncode == 0 and all(finding["severity"] != "error" for finding in json.loads(done.stdout))


def test_a_write_that_the_system_refuses_leaves_nothing(mlp: Path) -> None:
    """A limit on the size of files stands for a full disk: the write fails in the middle."""
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); from quantizeml_core.cli import build; build()()"
    before = sorted(mlp.iterdir())
    command = [sys.executable, "-B", "-c", code, "quantize", "-m", "net.onnx", "-sa", "samples.npz"]
    done = subprocess.run(command, cwd=mlp, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: `net_i8_w8_a8.onnx`: cannot be written: the file would be larger than the system allows.")
    assert sorted(mlp.iterdir()) == before


def save_samples(path: Path, array: np.ndarray) -> None:
    np.savez(path, array.astype(np.float32))


@pytest.mark.parametrize(("flags", "code", "message"), [
    ("-m text.onnx", 1, "text.onnx"),
    ("-m cut.onnx", 1, "cut.onnx"),
    ("-m empty.onnx", 1, "empty.onnx"),
    ("-m net.onnx -sa nan.npz", 1, "sample 2 holds nan"),
    ("-m net.onnx -sa last.npz", 1, "channel-last, the model takes channel-first"),
    ("-m net.onnx -sa none.npz", 1, "holds no sample"),
    ("-m net.onnx -sa text.npy", 1, "cannot be read"),
    ("-m net.onnx -sa absent.npz", 1, "there is no such file"),
    ("-m net.onnx -ns 0", 2, "num_samples"),
    ("-m net.onnx -ns 4 -bs 0", 2, "batch_size"),
    ("-m net.onnx -ns 4 -qu convolution_9", 2, "convolution_9"),
    ("-m net.onnx -ns 4 --target akida9", 2, "akida9"),
    ("-m net.onnx -ns 4 -s nowhere/out.onnx", 1, "the directory does not exist"),
])
def test_bad_input_is_one_clear_error(tmp_path: Path, flags: str, code: int, message: str) -> None:
    data = convolution(tmp_path / "net.onnx").read_bytes()
    (tmp_path / "text.onnx").write_text("this is not a network")
    (tmp_path / "cut.onnx").write_bytes(data[:-100])
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.npy").write_text("these are not samples")
    nan = np.zeros((4, 3, 8, 8))
    nan[2, 1] = np.nan
    for name, array in {"nan": nan, "last": np.zeros((4, 8, 8, 3)), "none": np.zeros((0, 3, 8, 8))}.items():
        save_samples(tmp_path / f"{name}.npz", array)
    before = sorted(tmp_path.iterdir())
    done = quantizeml("quantize", *flags.split(), cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
    assert (done.returncode, done.stdout, len(errors)) == (code, "", 1), done.stderr
    assert message in errors[0] and errors[0].startswith("Error: ")
    assert sorted(tmp_path.iterdir()) == before
