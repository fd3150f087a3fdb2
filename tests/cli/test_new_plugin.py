"""`quantizeml plugins new`: a distribution whose own tests pass as written; nothing is written when it is refused. The example plugin as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")


def own_tests(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Installs a distribution beside the environment and runs its tests in a process of their own."""
    subprocess.run([sys.executable, *PIP, "-t", str(site), str(folder)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder / "tests")]
    return subprocess.run([sys.executable, *words], cwd=site, env=environment, capture_output=True, text=True)


def test_the_tests_of_a_new_plugin_pass(run: Any, tmp_path: Path) -> None:
    result = run("plugins", "new", "my-rules", "--into", str(tmp_path))
    assert result.exit_code == 0 and "pip install -e" in result.stdout
    done = own_tests(tmp_path / "quantizeml-my-rules", tmp_path / "site")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_tests_of_the_example_pass(tmp_path: Path) -> None:
    done = own_tests(ROOT / "examples/quantizeml-space-to-depth", tmp_path / "site")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "words"), [
    ("My", "`My` is no name"),
    ("../up", "is no name"),
    ("9-rules", "is no name"),
    ("onnx", "is no name"),
    (300 * "a", "is no name"),
    ("there", "it is there already"),
])
def test_a_bad_name_writes_nothing(run: Any, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "quantizeml-there").mkdir()
    result = run("plugins", "new", name, "--into", str(tmp_path))
    assert result.exit_code == 2 and words in result.stderr and os.listdir(tmp_path) == ["quantizeml-there"]


def test_a_folder_that_is_not_there_is_refused(run: Any, tmp_path: Path) -> None:
    result = run("plugins", "new", "fine", "--into", str(tmp_path / "none"))
    assert result.exit_code == 2 and "cannot be written" in result.stderr


def test_a_file_is_no_folder_to_write_into(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("plugins", "new", "fine", "--into", str(tmp_path / "file"))
    assert result.exit_code == 2 and "cannot be written" in result.stderr and os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_finished_leaves_nothing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    result = run("plugins", "new", "fine", "--into", str(tmp_path))
    assert result.exit_code == 2 and "No space left on device" in result.stderr and os.listdir(tmp_path) == []
