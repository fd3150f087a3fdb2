"""Documentation that cannot rot: help screens are compared, examples are run, finding codes are listed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from quantizeml_core.hooks import HOOKS

ROOT = Path(__file__).parents[2]
HOOKS_PAGE = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", HOOKS_PAGE, re.MULTILINE | re.DOTALL))
CODE = re.compile(r"\bQML\d{3}\b")


def test_help_page() -> None:
    page = runpy.run_path(str(ROOT / "docs/make_help.py"))["page"]()
    assert (ROOT / "docs/help.md").read_text(encoding="utf-8") == page, "run `make help-page`"


def test_every_hook_has_a_section() -> None:
    assert set(HOOKS) <= set(SECTIONS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_an_example_that_runs(hook: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", SECTIONS[hook], re.DOTALL)
    assert f"def {hook}(" in example and "assert" in example
    exec(compile(example, f"docs/hooks.md, {hook}", "exec"), {"__name__": "example"})


def test_every_finding_is_listed() -> None:
    sources = [path for folder in ("quantizeml_core", "plugins") for path in (ROOT / folder).rglob("*.py")]
    used = {code for path in sources for code in CODE.findall(path.read_text(encoding="utf-8"))}
    listed = set(CODE.findall((ROOT / "docs/errors.md").read_text(encoding="utf-8")))
    assert used <= listed


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_the_readmes_plugin_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    plugin = next(block for block in blocks if "hookimpl" in block)
    space: dict[str, object] = {"__name__": "example"}
    exec(compile(plugin, "README.md", "exec"), space)
    assert space["MY_CHIP"].weight_bits == (4,)  # type: ignore[attr-defined]
    assert len(plugin.splitlines()) <= 12


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in ("hooks", "targets", "errors", "migration", "api", "onnx"))])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert all(((ROOT / page).parent / link).exists() for link in links)
