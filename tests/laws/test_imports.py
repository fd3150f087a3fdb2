"""The laws of the house about imports: the core knows no framework, plugins know the core only, doors are light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = {path.name: path for path in sorted(ROOT.glob("plugins/*/quantizeml_*"))}
CORE = [*ROOT.glob("quantizeml_core/**/*.py"), *ROOT.glob("quantizeml/**/*.py")]
SOURCES = [*CORE, *(file for path in PLUGINS.values() for file in path.rglob("*.py"))]
FRAMEWORKS = {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "tensorflow", "keras", "tf_keras", "torch", "jax"}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    """Absolute names of the modules a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[:-node.level]
            yield ".".join((*package, node.module) if node.module else package)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def run(code: str, **environ: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environ}).stdout


@pytest.mark.parametrize("path", CORE, ids=label)
def test_the_core_imports_no_framework_and_no_plugin(path: Path) -> None:
    assert not roots(path) & (FRAMEWORKS | set(PLUGINS))


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_never_import_each_other(name: str) -> None:
    others = set(PLUGINS) - {name}
    assert not [label(path) for path in PLUGINS[name].rglob("*.py") if roots(path) & others]


@pytest.mark.parametrize("name", PLUGINS)
def test_a_door_is_light(name: str) -> None:
    loaded = run(f"import sys; before = set(sys.modules); import {name}.plugin; print(*sorted(set(sys.modules) - before))").split()
    foreign = {module.partition(".")[0] for module in loaded} - set(sys.stdlib_module_names) - {"quantizeml_core", "pluggy", name}
    assert not foreign


@pytest.mark.parametrize("path", [path for path in CORE if "cli" not in path.parts and path.name != "api.py"], ids=label)
def test_only_api_and_cli_read_the_registry(path: Path) -> None:
    assert not {"quantizeml_core.plugins", "quantizeml_core.discovery"} & set(imported(path)) or path.name in ("plugins.py", "discovery.py")


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_library_code_does_not_print(path: Path) -> None:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert not [func.lineno for func in calls if isinstance(func, ast.Name) and func.id == "print"]


@pytest.mark.parametrize("command", ["--help", "quantize --help", "plugins --json", "version", "targets --json"])
def test_light_commands_import_no_framework(command: str) -> None:
    code = f"import sys; from quantizeml_core.cli import build; build()({command.split()}, standalone_mode=False); print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in run(code).splitlines()[-1].split()}
    assert not loaded & (FRAMEWORKS | {"numpy"})


def test_help_is_shown_at_once() -> None:
    """Under 0.3 s, the best of ten: a busy machine makes single runs slower, never faster."""
    def seconds() -> float:
        start = time.perf_counter()
        run("from quantizeml_core.cli import main; import sys; sys.argv = ['quantizeml', '--help']; main()")
        return time.perf_counter() - start

    assert any(seconds() < 0.3 for _ in range(10))


def test_the_import_surface_is_lazy() -> None:
    loaded = set(run("import sys, quantizeml.models, quantizeml.layers; print(*sys.modules)").split())
    assert not {name.partition(".")[0] for name in loaded} & (FRAMEWORKS | {"numpy", "rich", "click"})


def test_brainchips_distribution_beside_ours_is_refused(tmp_path: Path) -> None:
    info = tmp_path / "quantizeml-1.2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quantizeml\nVersion: 1.2.5\n")
    code = "try:\n    import quantizeml\nexcept ImportError as error:\n    print(error)"
    told = run(code, PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert "`quantizeml` 1.2.5" in told and "pip uninstall quantizeml quantizeml-core" in told
