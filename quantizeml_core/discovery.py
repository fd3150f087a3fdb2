"""Discovery of plugins: which entry points of group `quantizeml` are installed, selected and sound. Failure is a value in a `Plugin`.

`QUANTIZEML_PLUGINS` selects: a comma-separated list of distribution or entry-point names; empty selects none; unset selects all. The core's
own plugin (`builtin`) is always there. Records are ordered by distribution and name, so nothing depends on the order of installation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy

from . import builtin
from .errors import PluginError
from .hooks import HOOKS, PROJECT, Hook, Specs

SELECTION = "QUANTIZEML_PLUGINS"
CORE = "quantizeml-core"


@dataclass(frozen=True)
class Plugin:
    """One plugin as found: its entry-point name, who brings it, the hooks it implements, or why it cannot be used.

    `selected` is False when `QUANTIZEML_PLUGINS` leaves it out; such a plugin is not imported.
    """

    name: str
    distribution: str
    version: str = ""
    hooks: Mapping[str, Hook] = field(default_factory=dict, compare=False)
    error: str = ""
    selected: bool = True

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip() or f"plugin `{self.name}`"

    def to_json(self) -> dict[str, Any]:
        """What `quantizeml plugins --json` shows."""
        return {"name": self.name, "distribution": self.distribution, "version": self.version, "hooks": list(self.hooks),
                "selected": self.selected, "error": self.error}


def discover(environ: Mapping[str, str] = os.environ, found: Iterable[EntryPoint] | None = None) -> tuple[Plugin, ...]:
    """Every plugin there is, the core's own first. Nothing is raised: what is broken says so in `error`.

    Arguments:
        environ: where `QUANTIZEML_PLUGINS` is read.
        found: the entry points, those of the environment when left out.
    """
    names = _selection(environ)
    entries = entry_points(group=PROJECT) if found is None else found
    plugins = sorted((_load(entry, names) for entry in entries), key=_order)
    return (_builtin(), *plugins, *_absent(names, plugins))


def inspect(implementation: object, name: str, distribution: str, release: str = "") -> Plugin:
    """The record of a plugin object or module that is already imported."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    try:
        manager.register(implementation, name=name)
        manager.check_pending()
        hooks = {hook: _hook(manager, hook) for hook in HOOKS if getattr(manager.hook, hook).get_hookimpls()}
        _check_marked(implementation, hooks)
    except (pluggy.PluginValidationError, PluginError) as error:
        return Plugin(name, distribution, release, error=" ".join(str(error).split()))
    return Plugin(name, distribution, release, hooks)


def refuse_broken(plugins: Iterable[Plugin]) -> None:
    """Raises PluginError for the first plugin that cannot be used, and says how to go on without it."""
    known = tuple(plugins)
    for plugin in known:
        if plugin.error:
            raise PluginError(plugin.error, where=str(plugin), do=skip(plugin, known))


def skip(plugin: Plugin, known: Iterable[Plugin]) -> str:
    """How a user goes on without a plugin."""
    others = [p.name for p in known if p != plugin and p.distribution != CORE and p.selected and not p.error]
    return f"Repair or uninstall it, or skip it with {SELECTION}={','.join(others)}"


def _order(plugin: Plugin) -> tuple[str, str]:
    return plugin.distribution, plugin.name


def _selection(environ: Mapping[str, str]) -> frozenset[str] | None:
    text = environ.get(SELECTION)
    return None if text is None else frozenset(_normal(part) for part in text.split(",") if part.strip())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _builtin() -> Plugin:
    try:
        release = version(CORE)
    except PackageNotFoundError:
        release = ""
    return inspect(builtin, "builtin", CORE, release)


def _load(entry: EntryPoint, names: frozenset[str] | None) -> Plugin:
    distribution = _normal(entry.dist.name) if entry.dist else ""
    release = entry.dist.version if entry.dist else ""
    if names is not None and not names & {_normal(entry.name), distribution}:
        return Plugin(entry.name, distribution, release, selected=False)
    try:
        implementation = entry.load()
    except Exception as error:  # a stranger's module may raise anything; it becomes a value with its reason
        return Plugin(entry.name, distribution, release, error=f"`{entry.value}` cannot be imported: {type(error).__name__}: {error}")
    return inspect(implementation, entry.name, distribution, release)


def _absent(names: frozenset[str] | None, plugins: list[Plugin]) -> tuple[Plugin, ...]:
    there = {_normal(text) for plugin in plugins for text in (plugin.name, plugin.distribution)}
    absent = sorted((names or frozenset()) - there)
    return tuple(Plugin(name, "", error=f"{SELECTION} names it, but no such plugin is installed") for name in absent)


def _hook(manager: pluggy.PluginManager, name: str) -> Hook:
    (found,) = getattr(manager.hook, name).get_hookimpls()
    if found.hookwrapper or found.wrapper:
        raise PluginError(f"`{name}` is a hook wrapper; hooks return values and wrap nothing")

    def call(**arguments: Any) -> Any:
        return found.function(*(arguments[argument] for argument in found.argnames))

    return call


def _check_marked(implementation: object, hooks: Mapping[str, Hook]) -> None:
    for name in dir(implementation):
        if name.startswith("quantizeml_") and name not in hooks and callable(getattr(implementation, name)):
            raise PluginError(f"`{name}` is not marked with @hookimpl", allowed=", ".join(HOOKS))
