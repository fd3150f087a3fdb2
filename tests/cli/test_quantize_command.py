"""`quantizeml quantize`: the guide's flags, the default name, exit codes, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantizeml_core.cli.naming import default_name
from quantizeml_core.errors import QuantizeMLError, SampleError, UsageError
from quantizeml_core.params import QuantizationParams

PARAMS = QuantizationParams(8, 4, 2)


@pytest.mark.parametrize(("model", "config", "expected"), [
    ("dir/net.onnx", None, "dir/net_i8_w4_a2.onnx"),
    ("net_i8_w8_a8.onnx", None, "net_i8_w4_a2.onnx"),
    ("net_i8_w8_a8_qat.onnx", None, "net_i8_w4_a2.onnx"),
    ("net_i8.onnx", None, "net_i8_i8_w4_a2.onnx"),
    ("net.v2.ONNX", None, "net.v2_i8_w4_a2.onnx"),
    ("net.onnx", "dir/mixed.json", "net_mixed.onnx"),
    ("net_i8_w8_a8.onnx", "mixed.json", "net_mixed.onnx"),
])
def test_default_name(model: str, config: str | None, expected: str) -> None:
    assert default_name(Path(model), PARAMS, Path(config) if config else None) == Path(expected)


@pytest.mark.parametrize(("flags", "expected"), [
    ("-i 8 -w 8 -a 8", {"qparams": QuantizationParams(8, 8, 8)}),
    ("-i 8 -w 8 -a 8 -sa some_samples.npz -bs 128 -e 2",
     {"qparams": QuantizationParams(8, 8, 8), "samples": Path("some_samples.npz"), "batch_size": 128, "epochs": 2}),
    ("-i 8 -w 4 -a 4 --per_tensor_activations", {"qparams": QuantizationParams(8, 4, 4, True)}),
    ("", {"qparams": QuantizationParams(), "samples": None, "num_samples": 1024, "batch_size": None, "epochs": 1, "quantize_until": None,
          "input_shape": None, "target": "generic", "seed": 0, "strict": False, "q_config": None}),
    ("-b 24 -o 4 -lob 8 -id int8", {"qparams": QuantizationParams(buffer_bits=24, output_bits=4, last_output_bits=8, input_dtype="int8")}),
    ("-ns 16 -qu conv_3 --input_shape 1,28,28 --seed 7 --strict",
     {"num_samples": 16, "quantize_until": "conv_3", "input_shape": (1, 28, 28), "seed": 7, "strict": True}),
    ("--target akida1", {"qparams": QuantizationParams(), "target": "akida1"}),
    ("--input_weight_bits 8 --weight_bits 4 --activation_bits 4 --samples s.npy --num_samples 2 --batch_size 1 --epochs 3",
     {"qparams": QuantizationParams(8, 4, 4), "samples": Path("s.npy"), "num_samples": 2, "batch_size": 1, "epochs": 3}),
])
def test_flags_reach_the_quantizer(api: Any, run: Any, net: Path, flags: str, expected: dict[str, Any]) -> None:
    result = run("quantize", "-m", net, *flags.split())
    assert result.exit_code == 0, result.output
    assert {key: api.calls[0][key] for key in expected} == expected


@pytest.mark.parametrize(("flags", "name"), [
    ("", "net_i8_w8_a8.onnx"), ("-w 4", "net_i8_w4_a8.onnx"), ("--target akida1", "net_i8_w4_a4.onnx"),
    ("-s SELF/out.onnx", "out.onnx"), ("-s SELF/out", "out.onnx"), ("-s SELF/out.h5", "out.onnx"), ("-s SELF/out.v2", "out.v2.onnx"),
])
def test_where_it_is_saved(api: Any, run: Any, net: Path, flags: str, name: str) -> None:
    result = run("quantize", "-m", net, *flags.replace("SELF", str(net.parent)).split())
    assert result.exit_code == 0, result.output
    assert (net.parent / name).read_bytes() == b"integers" and str(net.parent / name) in result.stdout


def test_what_is_told(api: Any, run: Any, net: Path) -> None:
    result = run("quantize", "-m", net, "--target", "akida2")
    for text in ("2: 1 input, 1 conv2d", "3 of 4 nodes, 90.0 % of the multiplications", "i8 w8 a8, per-axis activations, target akida2",
                 "before `lambda_3` (Tanh): no rule covers it. Nearest: conv2d (quantizeml-onnx) expected Relu, got Tanh.", "QML301"):
        assert text in result.stdout
    assert result.stderr == "Warning: calibrated with random samples\n"


def test_json_is_all_there_is_on_stdout(api: Any, run: Any, net: Path) -> None:
    result = run("quantize", "-m", net, "--json")
    told = json.loads(result.stdout)
    assert [line.startswith("Warning: ") for line in result.stderr.splitlines()] == [True, True] and len(told["warnings"]) == 2
    assert told["saved"] == str(net.with_name("net_i8_w8_a8.onnx")) and told["bytes"] == len(b"integers")
    assert told["coverage"] == {"nodes": 3, "total": 4, "macs": 900, "total_macs": 1000}
    assert [stop["node"] for stop in told["stops"]] == ["lambda_3"]
    assert told["qparams"]["weight_bits"] == 8 and told["findings"][0]["code"] == "QML301"


def test_configuration(api: Any, run: Any, net: Path) -> None:
    config = net.with_name("mixed.json")
    config.write_text('{"conv_1": {"weight_quantizer": {"bitwidth": 4}}}')
    assert run("quantize", "-m", net, "-c", config).exit_code == 0
    assert api.calls[0]["q_config"] == {"conv_1": {"weight_quantizer": {"bitwidth": 4}}}
    assert net.with_name("net_mixed.onnx").exists()


@pytest.mark.parametrize(("flags", "code", "message"), [
    ("--target akida1 -w 8", 2, "weight_bits (-w): 8 bits are not possible on target `akida1`. Allowed: 2, 4."),
    ("--target akida9", 2, "no target is called `akida9`. Allowed: generic, cpu, akida1, akida1@2023"),
    ("-id float16", 2, "Allowed: uint8, int8."),
    ("--input_shape 1,-28", 2, "Allowed: positive integers such as 1,28,28."),
    ("-bs 0", 2, "-bs/--batch_size: 0 is too small. Allowed: a positive integer."),
    ("-ns 0", 2, "-ns/--num_samples: 0 is too small."),
    ("-e -1", 2, "-e/--epochs: -1 is too small."),
    ("-s absent/out.onnx", 1, "the directory does not exist"),
    ("-c absent.json", 2, "cannot be read: No such file or directory"),
    ("-s net.onnx", 2, "would overwrite the model itself"),
])
def test_refused_before_work(api: Any, run: Any, net: Path, monkeypatch: pytest.MonkeyPatch, flags: str, code: int, message: str) -> None:
    monkeypatch.chdir(net.parent)
    result = run("quantize", "-m", net, *flags.split())
    assert (result.exit_code, result.stdout, api.calls) == (code, "", [])
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert [path.name for path in net.parent.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize(("text", "message"), [("{", "line 1, column 2"), ("[]", "is not a JSON object")])
def test_a_configuration_that_is_none(api: Any, run: Any, net: Path, text: str, message: str) -> None:
    config = net.with_name("c.json")
    config.write_text(text)
    result = run("quantize", "-m", net, "-c", config)
    assert result.exit_code == 2 and message in result.stderr


@pytest.mark.parametrize(("name", "message"), [
    ("absent.onnx", "there is no such file"), ("net.h5", "there is no such file"), ("net.t", "no frontend reads"),
])
def test_a_model_that_is_none(api: Any, run: Any, tmp_path: Path, name: str, message: str) -> None:
    result = run("quantize", "-m", tmp_path / name)
    assert result.exit_code == 1 and message in result.stderr and not api.calls


def test_without_a_frontend_the_distribution_is_named(api: Any, run: Any, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantizeml_core.discovery.entry_points", lambda group: ())
    result = run("quantize", "-m", net)
    assert result.exit_code == 1 and "the frontend for it is not installed. Run `pip install quantizeml-onnx`." in result.stderr


@pytest.mark.parametrize(("error", "code"), [(SampleError("NaN", where="sample 5"), 1), (UsageError("no"), 2)])
def test_errors_become_exit_codes(api: Any, run: Any, net: Path, error: QuantizeMLError, code: int) -> None:
    api.error = error
    result = run("quantize", "-m", net)
    assert (result.exit_code, result.stderr) == (code, f"Error: {error}\n")
    assert [path.name for path in net.parent.iterdir()] == ["net.onnx"]


def test_debugging_shows_the_traceback(api: Any, run: Any, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTIZEML_DEBUG", "1")
    api.error = SampleError("NaN")
    assert run("quantize", "-m", net).exception is api.error


def test_rewrites_are_listed(api: Any, run: Any, net: Path) -> None:
    assert "rewrites  1 fold_batch_normalization\n" in run("quantize", "-m", net).stdout
    listed = json.loads(run("quantize", "-m", net, "--json").stdout)["rewrites"]
    assert listed[1] == {"rewrite": "fold_zero_padding", "node": "pad_1", "refused": "the zeros would win"}
