"""Atomic writes: the whole file or nothing, every refusal with its reason."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from quantizeml_core.errors import QuantizeMLError
from quantizeml_core.files import atomic_write, check_destination


def test_the_file_appears_whole(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "net.onnx") as temporary:
        assert temporary.suffix == ".onnx" and temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert not (tmp_path / "net.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize(("raised", "expected", "message"), [
    (OSError(errno.ENOSPC, "No space left on device"), QuantizeMLError, "the disk is full"),
    (PermissionError(errno.EACCES, "Permission denied"), QuantizeMLError, "not writable"),
    (OSError("odd"), QuantizeMLError, "odd"),
    (ValueError("mine"), ValueError, "mine"),
], ids=["full", "denied", "other", "not an OSError"])
def test_an_error_leaves_the_old_file(tmp_path: Path, raised: Exception, expected: type[Exception], message: str) -> None:
    (tmp_path / "net.onnx").write_bytes(b"old")
    with pytest.raises(expected, match=message), atomic_write(tmp_path / "net.onnx") as temporary:
        temporary.write_bytes(b"half")
        raise raised
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("net.onnx", b"old")]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_a_destination_is_tried_and_left_alone(tmp_path: Path) -> None:
    assert check_destination(tmp_path / "net.onnx") == tmp_path / "net.onnx"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "message"), [
    ("absent/net.onnx", "the directory does not exist"),
    ("file/net.onnx", "not a directory"),
    (".", "it is a directory"),
])
def test_an_impossible_destination_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QuantizeMLError, match=message):
        check_destination(tmp_path / name)
