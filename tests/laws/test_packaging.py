"""Five distributions, one version: their metadata agree, and a wheel or sdist of each holds its own packages and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = {
    "quantizeml-core": (ROOT, ("quantizeml_core", "quantizeml")),
    "quantizeml-onnx": (ROOT / "plugins/onnx", ("quantizeml_onnx",)),
    "quantizeml-keras": (ROOT / "plugins/keras", ("quantizeml_keras",)),
    "quantizeml-akida1": (ROOT / "plugins/akida_v1", ("quantizeml_akida1",)),
    "quantizeml-akida2": (ROOT / "plugins/akida_v2", ("quantizeml_akida2",)),
}


def metadata(name: str) -> dict[str, Any]:
    return tomllib.loads((PROJECTS[name][0] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


VERSION = metadata("quantizeml-core")["version"]


def requirements(name: str) -> list[str]:
    project = metadata(name)
    return [*project["dependencies"], *(item for extra in project.get("optional-dependencies", {}).values() for item in extra)]


@pytest.mark.parametrize("name", PROJECTS)
def test_one_version(name: str) -> None:
    assert (metadata(name)["name"], metadata(name)["version"]) == (name, VERSION)
    siblings = [item for item in requirements(name) if re.match(r"quantizeml-[a-z0-9]+==", item)]
    assert all(item.endswith(f"=={VERSION}") for item in siblings)


def test_extras_name_every_sibling() -> None:
    assert {f"{name}=={VERSION}" for name in PROJECTS if name != "quantizeml-core"} <= set(requirements("quantizeml-core"))


@pytest.mark.parametrize("name", [name for name in PROJECTS if name != "quantizeml-core"])
def test_plugins_depend_on_the_core_and_open_one_door(name: str) -> None:
    package = PROJECTS[name][1][0]
    assert f"quantizeml-core=={VERSION}" in metadata(name)["dependencies"]
    assert metadata(name)["entry-points"]["quantizeml"] == {name.removeprefix("quantizeml-"): f"{package}.plugin"}


@pytest.mark.parametrize("name", PROJECTS)
def test_licence_and_readme(name: str) -> None:
    folder = PROJECTS[name][0]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert metadata(name)["license"] == "Apache-2.0" and (folder / "README.md").is_file()


def build(kind: str, folder: Path, out: Path) -> Path:
    """One file made by the build backend, without a network."""
    code = f"import sys; from hatchling.build import build_{kind} as build; print(build(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=folder, check=True, capture_output=True, text=True)
    return out / done.stdout.split()[-1]


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.mark.parametrize("name", PROJECTS)
def test_wheel_and_sdist_stand_on_their_own(name: str, tmp_path: Path) -> None:
    folder, packages = PROJECTS[name]
    direct = contents(build("wheel", folder, tmp_path / "direct"))
    tops = {entry.split("/")[0] for entry in direct}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(packages)
    assert {f"{package}/py.typed" for package in packages} <= direct
    with tarfile.open(build("sdist", folder, tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert contents(build("wheel", unpacked, tmp_path / "again")) == direct
