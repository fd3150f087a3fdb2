"""A working plugin to start from: `quantizeml plugins new NAME` writes the distribution quantizeml-NAME, its tests included.

It is written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from .errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LAYOUT = {
    "pyproject.toml": "pyproject.toml", "README.md": "README.md", "{package}/__init__.py": "__init__.py", "{package}/plugin.py": "plugin.py",
    "{package}/rules.py": "rules.py", "tests/test_{tail}.py": "test.py",
}
"""Path in the distribution -> template."""
OWN = frozenset({"core", "onnx", "keras", "akida1", "akida2"})
"""Names of our own distributions: a second quantizeml-onnx would depend on itself and take the place of the first."""
LONGEST = 64


def write_plugin(name: str, into: Path) -> Path:
    """Writes the distribution into a folder and returns its own.

    Errors: UsageError for a name that is none, a folder that is there already, or one that cannot be written.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST or name in OWN:
        raise UsageError(f"`{name}` is no name for a plugin", where="plugins new",
                         allowed=f"up to {LONGEST} lower-case letters, digits and hyphens, a letter first; not {', '.join(sorted(OWN))}",
                         do="Give another, such as `my-rules`")
    folder = into / f"quantizeml-{name}"
    if folder.exists():
        raise UsageError("it is there already", where=f"`{folder}`", do="Give another name, or remove it")
    try:
        _write(name, folder)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or error}", where=f"`{folder}`", do="Give another folder with --into") from error
    return folder


def _write(name: str, folder: Path) -> None:
    tail = name.replace("-", "_")
    words = {"name": name, "package": f"quantizeml_{tail}", "package_tail": tail, "version": version("quantizeml-core")}
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for place, template in LAYOUT.items():
            path = temporary / place.format(package=words["package"], tail=tail)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_template(template).safe_substitute(words), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _template(name: str) -> Template:
    return Template((files("quantizeml_core") / "templates" / "plugin" / f"{name}.txt").read_text(encoding="utf-8"))
