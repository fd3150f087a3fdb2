"""Whole files or nothing: a write goes to a temporary file beside its destination and replaces it in one step.

    with atomic_write("net_i8_w8_a8.onnx") as temporary:
        temporary.write_bytes(data)
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from .errors import QuantizeMLError

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another destination"),
    errno.EFBIG: ("the file would be larger than the system allows", "Raise the limit, or choose another destination"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another destination"),
    errno.EACCES: ("the directory is not writable", "Choose another destination with -s/--save_name"),
    errno.EPERM: ("the directory is not writable", "Choose another destination with -s/--save_name"),
    errno.EROFS: ("the file system is read-only", "Choose another destination with -s/--save_name"),
    errno.ENOENT: ("the directory does not exist", "Create it, or choose another destination"),
    errno.ENOTDIR: ("its parent is not a directory", "Choose another destination"),
    errno.EISDIR: ("it is a directory", "Give the name of a file"),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one with -s/--save_name"),
}


@contextmanager
def atomic_write(path: str | PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path of the same suffix; when the block ends well, what was written there becomes `path`, else nothing changes.

    Raises:
        QuantizeMLError: for any error of the operating system in the block or in the replacement.
    """
    final = Path(path).resolve()
    temporary = _beside(final)
    try:
        yield temporary
        temporary.replace(final)
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_destination(path: str | PathLike[str]) -> Path:
    """The path itself when a file can be written there, found out by trying; called before a long computation."""
    final = Path(path).resolve()
    try:
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        probe = _beside(final)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise refusal(path, error) from error
    return Path(path)


def refusal(path: str | PathLike[str], error: OSError) -> QuantizeMLError:
    """What an error of the operating system means for the file a user wanted to write."""
    what, do = _REASONS.get(error.errno or 0, (error.strerror or str(error), "Choose another destination"))
    return QuantizeMLError(f"cannot be written: {what}", where=f"`{path}`", do=do)


def _beside(final: Path) -> Path:
    return final.with_name(f".{final.stem[:40]}.{secrets.token_hex(4)}{final.suffix}")
