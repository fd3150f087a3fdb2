"""What a user installs: wheels and sdists in clean environments, the command line in each, nothing imported that should not be, and what is gone
after an uninstall. Third-party packages come from the configured index, ours from the files built here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT, *(ROOT / "plugins" / name for name in ("onnx", "keras", "akida_v1", "akida_v2")), ROOT / "examples/quantizeml-space-to-depth")
NET = ROOT / "examples/models/dscnn_mnist"
BUILD = "import sys, hatchling.build as h; h.build_wheel(sys.argv[1]); h.build_sdist(sys.argv[1])"


@dataclass(frozen=True)
class Environment:
    """A clean virtual environment."""

    folder: Path
    wheels: Path

    def run(self, program: str, *words: object) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in a neutral folder, with nothing of the test run around it."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "QUANTIZEML", "COV_"))}
        return subprocess.run([str(self.folder / "bin" / program), *map(str, words)], cwd=self.folder, env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3"},
                              capture_output=True, text=True)

    def pip(self, *words: str) -> None:
        done = self.run("python", "-m", "pip", *words, "--quiet", "--disable-pip-version-check")
        assert done.returncode == 0, done.stderr

    def install(self, *names: str) -> None:
        self.pip("install", "--find-links", str(self.wheels), *names)

    def modules(self) -> set[str]:
        """Top-level packages that are installed."""
        listed = json.loads(self.run("python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
        return {entry["name"].lower() for entry in listed}

    def plugins(self) -> dict[str, str]:
        """Errors by name of the plugins, the empty one for a sound plugin."""
        return {p["name"]: p["error"] for p in json.loads(self.run("quantizeml", "plugins", "--json").stdout)}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheels")
    for folder in FOLDERS:
        subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=folder, check=True, capture_output=True)
    return out


def made(wheels: Path, folder: Path, *names: str) -> Iterator[Environment]:
    venv.create(folder, with_pip=True)
    environment = Environment(folder, wheels)
    environment.install(*names)
    yield environment
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def core(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    yield from made(wheels, tmp_path_factory.mktemp("core"), "quantizeml-core")


@pytest.fixture(scope="module")
def onnx(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    yield from made(wheels, tmp_path_factory.mktemp("onnx"), "quantizeml-core[onnx]")


@pytest.fixture(scope="module")
def keras(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    yield from made(wheels, tmp_path_factory.mktemp("keras"), "quantizeml-core[keras]")


@pytest.fixture(scope="module")
def targets(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    yield from made(wheels, tmp_path_factory.mktemp("targets"), "quantizeml-core[onnx,akida1,akida2]", "quantizeml-space-to-depth")


def test_every_distribution_has_a_wheel_and_an_sdist(wheels: Path) -> None:
    assert len(list(wheels.glob("quantizeml*.whl"))) == len(list(wheels.glob("quantizeml*.tar.gz"))) == len(FOLDERS)


@pytest.mark.parametrize("words", [("--help",), ("version",), ("targets",), ("targets", "generic"), ("plugins",), ("plugins", "new", "fresh")])
def test_the_core_alone_runs(core: Environment, words: tuple[str, ...]) -> None:
    done = core.run("quantizeml", *words)
    assert done.returncode == 0 and not done.stderr


COMMANDS = (("--help",), ("version",), ("plugins", "--json"), ("targets",))


@pytest.mark.parametrize("kind", ["onnx", "keras", "targets"])
@pytest.mark.parametrize("words", COMMANDS)
def test_every_combination_runs(request: pytest.FixtureRequest, kind: str, words: tuple[str, ...]) -> None:
    done = request.getfixturevalue(kind).run("quantizeml", *words)
    assert done.returncode == 0 and done.stdout and not done.stderr


@pytest.mark.parametrize("kind", ["core", "onnx", "keras", "targets"])
def test_the_code_comes_from_the_environment(request: pytest.FixtureRequest, kind: str) -> None:
    environment: Environment = request.getfixturevalue(kind)
    done = environment.run("python", "-c", "import quantizeml, quantizeml_core; print(quantizeml.__file__, quantizeml_core.__file__)")
    assert all(Path(file).is_relative_to(environment.folder) for file in done.stdout.split()) and done.stdout


def test_the_core_alone_brings_no_framework(core: Environment) -> None:
    assert not core.modules() & {"onnx", "onnxruntime", "tensorflow", "keras", "torch"}


@pytest.mark.parametrize(("suffix", "words", "code", "says"), [
    (".onnx", (), 1, "pip install quantizeml-onnx"),
    (".keras", (), 1, "pip install quantizeml-keras"),
    (".onnx", ("--target", "akida2"), 2, "akida2 (quantizeml-akida2)"),
])
@pytest.mark.parametrize("real", [True, False])
def test_the_core_alone_says_what_to_install(core: Environment, real: bool, suffix: str, words: tuple[str, ...], code: int,
                                                 says: str) -> None:
    model = NET.with_suffix(suffix) if real else Path("net" + suffix)
    done = core.run("quantizeml", "quantize", "-m", model, *words, "-s", "out" + suffix)
    assert (done.returncode, says in done.stderr) == (code, True) and not list(core.folder.glob("out*")), done.stderr


def test_old_names_say_what_to_install(core: Environment) -> None:
    done = core.run("python", "-c", "from quantizeml.onnx_support.layers import get_qconv")
    assert "pip install quantizeml-onnx" in done.stderr


@pytest.mark.parametrize("suffix", [".onnx", ".keras"])
def test_each_frontend_quantizes_without_the_other(request: pytest.FixtureRequest, suffix: str) -> None:
    environment: Environment = request.getfixturevalue(suffix[1:])
    done = environment.run("quantizeml", "quantize", "-m", NET.with_suffix(suffix), "-ns", "16", "-s", environment.folder / f"q{suffix}")
    assert done.returncode == 0 and (environment.folder / f"q{suffix}").is_file(), done.stderr


@pytest.mark.parametrize(("kind", "absent"), [("onnx", {"tensorflow", "keras", "torch"}), ("keras", {"onnxruntime", "torch", "quantizeml-onnx"})])
def test_each_frontend_brings_its_framework_only(request: pytest.FixtureRequest, kind: str, absent: set[str]) -> None:
    assert not request.getfixturevalue(kind).modules() & absent


QUANTIZED = """
import sys
from quantizeml.models import load_model, quantize
quantize(load_model(sys.argv[1]), num_samples=4)
print(*sorted({"onnxruntime", "tensorflow", "keras"} & set(sys.modules)))
"""


def test_quantizing_an_onnx_model_imports_no_keras_even_where_it_is_installed(onnx: Environment) -> None:
    for python in (onnx.folder / "bin/python", sys.executable):
        words = [str(python), "-c", QUANTIZED, str(NET.with_suffix(".onnx"))]
        done = subprocess.run(words, cwd=onnx.folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, ["onnxruntime"]), done.stderr


def test_an_onnx_model_imports_no_keras_even_where_it_is_installed() -> None:
    code = f"import sys; from quantizeml.models import load_model; load_model({str(NET.with_suffix('.onnx'))!r}); print('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "False"


def test_targets_and_a_third_party_plugin_are_found(targets: Environment) -> None:
    assert targets.plugins() == dict.fromkeys(("builtin", "akida1", "akida2", "onnx", "space_to_depth"), "")
    done = targets.run("quantizeml", "check", "-m", NET.with_suffix(".onnx"), "--target", "akida1")
    assert done.returncode == 0 and "pointwise_behind_depthwise" in done.stdout


@pytest.mark.parametrize("target", ["akida1", "akida2"])
def test_an_installed_target_quantizes(targets: Environment, target: str) -> None:
    out = targets.folder / f"{target}.onnx"
    done = targets.run("quantizeml", "quantize", "-m", NET.with_suffix(".onnx"), "--target", target, "-ns", "16", "-s", out)
    assert done.returncode == 0 and out.is_file(), done.stdout + done.stderr


def test_an_uninstalled_plugin_is_gone_and_said_to_be(targets: Environment) -> None:
    targets.pip("uninstall", "-y", "quantizeml-akida2", "quantizeml-space-to-depth")
    done = targets.run("quantizeml", "check", "-m", NET.with_suffix(".onnx"), "--target", "akida2")
    assert (done.returncode, "akida2 (quantizeml-akida2)" in done.stderr) == (2, True)
    assert set(targets.plugins()) == {"builtin", "akida1", "onnx"}
    assert targets.run("quantizeml", "check", "-m", NET.with_suffix(".onnx"), "--target", "akida1").returncode == 0


def test_a_plugin_that_lost_its_frontend_says_so(targets: Environment) -> None:
    targets.pip("uninstall", "-y", "quantizeml-onnx")
    done = targets.run("quantizeml", "quantize", "-m", NET.with_suffix(".onnx"))
    assert done.returncode == 1 and "pip install quantizeml-onnx" in done.stderr
    assert all(targets.run("quantizeml", *words).returncode == 0 for words in COMMANDS)


def test_an_sdist_installs(core: Environment) -> None:
    (sdist,) = core.wheels.glob("quantizeml_akida2-*.tar.gz")
    core.pip("install", str(sdist))
    assert core.plugins()["akida2"] == ""


def test_the_sdist_of_the_core_installs(wheels: Path, tmp_path: Path) -> None:
    (sdist,) = wheels.glob("quantizeml_core-*.tar.gz")
    venv.create(tmp_path, with_pip=True)
    environment = Environment(tmp_path, wheels)
    environment.pip("install", str(sdist))
    assert environment.plugins() == {"builtin": ""}
    assert environment.run("python", "-c", "import quantizeml.models").returncode == 0


def test_all_is_one_word(onnx: Environment) -> None:
    done = onnx.run("python", "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check", "--find-links", onnx.wheels, "quantizeml-core[all]")
    assert done.returncode == 0, done.stderr
