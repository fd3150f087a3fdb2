"""`config`, `check`, `plugins`, `targets`, `version`, and the group itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantizeml_core.discovery import Plugin
from quantizeml_core.report.findings import Finding

ERROR = Finding("QML101", "error", "conv_1", "accumulator needs 33 bits")
INFO = Finding("QML301", "info", "conv_1", "slower body")


def test_config_writes_a_file(api: Any, run: Any, net: Path) -> None:
    out = net.with_name("config.json")
    assert run("config", "-m", net, "-o", out).exit_code == 0
    assert json.loads(out.read_text()) == {"conv_1": {"weight_quantizer": {"bitwidth": 8}}}


def test_config_prints(api: Any, run: Any, net: Path) -> None:
    assert json.loads(run("config", "-m", net).stdout) == {"conv_1": {"weight_quantizer": {"bitwidth": 8}}}


def test_config_refuses_a_bad_destination(api: Any, run: Any, net: Path) -> None:
    result = run("config", "-m", net, "-o", net.parent / "absent" / "config.json")
    assert result.exit_code == 1 and "the directory does not exist" in result.stderr


@pytest.mark.parametrize(("findings", "code", "text"), [((), 0, "nothing to report"), ((INFO,), 0, "QML301"), ((INFO, ERROR), 1, "QML101")])
def test_check(api: Any, run: Any, net: Path, findings: tuple[Finding, ...], code: int, text: str) -> None:
    api.findings = findings
    result = run("check", "-m", net)
    assert result.exit_code == code and text in result.stdout


def test_check_json_and_arguments(api: Any, run: Any, net: Path) -> None:
    api.findings = (INFO, ERROR)
    result = run("check", "-m", net, "--target", "akida2", "-sa", "s.npz", "--input_shape", "3,8,8", "--json")
    assert [finding["code"] for finding in json.loads(result.stdout)] == ["QML101", "QML301"]
    assert api.calls == [{"model": net, "target": "akida2", "samples": Path("s.npz"), "input_shape": (3, 8, 8)}]


def test_plugins_lists_all(run: Any) -> None:
    text = run("plugins").stdout
    for name in ("quantizeml-core", "quantizeml-onnx", "quantizeml-akida1", "quantizeml-akida2", "quantizeml-keras"):
        assert name in text


def test_plugins_says_why_one_is_broken_while_others_refuse(run: Any, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quantizeml_core import cli, discovery, plugins
    from quantizeml_core.cli import plugins as plugins_command

    def broken(*_: object) -> tuple[Plugin, ...]:
        return (*discovery.discover({"QUANTIZEML_PLUGINS": ""}), Plugin("bad", "quantizeml-bad", "1.0", error="boom"))

    for module in (cli, plugins, plugins_command):
        monkeypatch.setattr(module, "discover", broken)
    assert "not loaded: boom" in run("plugins").stdout
    assert run("--help").exit_code == 0
    result = run("quantize", "-m", net)
    assert result.exit_code == 1 and "quantizeml-bad 1.0: boom." in result.stderr and "skip it with QUANTIZEML_PLUGINS=" in result.stderr


def test_plugins_json(run: Any) -> None:
    told = {plugin["name"]: plugin for plugin in json.loads(run("plugins", "--json").stdout)}
    assert told["akida2"]["hooks"] == ["quantizeml_targets"] and told["onnx"]["error"] == ""


def test_targets(run: Any) -> None:
    text = run("targets").stdout
    assert all(name in text for name in ("generic", "akida1", "akida2"))


@pytest.mark.parametrize(("name", "texts"), [
    ("akida1", ("per tensor only", "weight_bits=4", "quantizeml-akida1", "hardware/1.0.html")),
    ("akida2", ("per axis or per tensor", "conv2d 28", "activation.table")),
])
def test_one_target(run: Any, name: str, texts: tuple[str, ...]) -> None:
    out = run("targets", name).stdout
    assert all(text in out for text in texts)


def test_target_json(run: Any) -> None:
    assert json.loads(run("targets", "akida2", "--json").stdout)["weight_bits"] == [4, 8]
    assert [target["name"] for target in json.loads(run("targets", "--json").stdout)] == ["generic", "cpu", *["akida1"] * 3, *["akida2"] * 2]


def test_unknown_target(run: Any) -> None:
    result = run("targets", "nope")
    assert result.exit_code == 2 and "Allowed: generic, cpu, akida1, akida1@2023" in result.stderr


def test_version(run: Any) -> None:
    told = json.loads(run("version", "--json").stdout)
    assert told["quantizeml-core"] == told["quantizeml-onnx"] and "python" in told and "numpy" in told
    assert f"quantizeml-core {told['quantizeml-core']}" in run("version").stdout.splitlines()


def test_unknown_command(run: Any) -> None:
    result = run("quantise")
    assert result.exit_code == 2 and "No such command" in result.stderr
