"""Registry: what all sound plugins bring together, collisions refused. Only `api` and `cli` read it; everything below gets values.

Answers are ordered by distribution and name of the plugin, never by the order of installation or import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .discovery import Plugin, discover, refuse_broken, skip
from .errors import ModelError, PluginError, QuantizeMLError, UsageError
from .hooks import CommandInfo, Frontend, FrontendInfo
from .target import Target
from .target_file import read_target

if TYPE_CHECKING:
    from .legalize import Legalization
    from .match import Rule
    from .program import Program
    from .report.findings import Finding

T = TypeVar("T")

FRONTEND_DISTRIBUTIONS: Mapping[str, str] = {
    ".onnx": "quantizeml-onnx", "onnx": "quantizeml-onnx", ".keras": "quantizeml-keras", ".h5": "quantizeml-keras", "keras": "quantizeml-keras",
}
"""The distribution that reads a file suffix, or an object of a top-level module, when no installed one does."""

UNSUPPORTED: Mapping[str, str] = {"tf_keras": "tf_keras"}
"""Kinds of model objects that no distribution reads."""

TARGET_DISTRIBUTIONS: Mapping[str, str] = {"akida1": "quantizeml-akida1", "akida2": "quantizeml-akida2"}


class Registry:
    """The abilities of a set of plugins. `Registry.load()` reads the installed ones; PluginError when one is broken."""

    def __init__(self, plugins: Iterable[Plugin]):
        self.plugins = tuple(plugins)
        refuse_broken(self.plugins)

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Registry:
        return cls(discover(environ))

    def frontends(self) -> Mapping[str, FrontendInfo]:
        """Frontends by name; two for one name or one suffix are refused."""
        pairs = self._values("quantizeml_frontends", FrontendInfo)
        for keys in (lambda info: info.suffixes, lambda info: info.module_prefixes):
            self._unique("frontend for", [(plugin, key, info) for plugin, info in pairs for key in keys(info)])
        return self._unique("frontend", [(plugin, info.name, info) for plugin, info in pairs])

    def frontend(self, name: str) -> Frontend:
        """A frontend by name, its framework imported."""
        infos = self.frontends()
        if name not in infos:
            raise PluginError(f"no frontend is called `{name}`", allowed=", ".join(infos) or "none is installed")
        return load_object(infos[name].loader)()

    def frontend_for(self, model: Any) -> Frontend:
        """The frontend of a model file (by its suffix) or of a model object (by the module of its class)."""
        keys = _keys(model)
        for info in self.frontends().values():
            if {*info.suffixes, *info.module_prefixes} & set(keys):
                return load_object(info.loader)()
        raise self._no_frontend(model, keys)

    def targets(self) -> Mapping[str, Target]:
        """Targets by name; another edition of a target already there stands under `name@revision`."""
        owners: dict[str, Plugin] = {}
        named = []
        for plugin, target in self._values("quantizeml_targets", Target):
            another = owners.setdefault(target.name, plugin) == plugin and any(t.name == target.name for _, _, t in named)
            named.append((plugin, f"{target.name}@{target.revision}" if another else target.name, target))
        return self._unique("target", named)

    def target(self, name: str | Target) -> Target:
        """A target by name, by `name@revision`, or from a JSON file; or the target itself. UsageError lists what there is and who brings others."""
        if isinstance(name, Target):
            return name
        if name.lower().endswith(".json"):
            return read_target(Path(name))
        there = self.targets()
        known = {f"{target.name}@{target.revision}": target for target in there.values()} | dict(there)
        if name in known:
            return known[name]
        others = ", ".join(f"{key} ({dist})" for key, dist in TARGET_DISTRIBUTIONS.items() if key not in there)
        raise UsageError(f"no target is called `{name}`", where="--target", allowed=f"{', '.join(there)}, or a .json file",
                         do=f"Install the distribution that brings it: {others}" if others else "Take one of them")

    def rules(self, frontend: str, target: Target) -> tuple[Rule, ...]:
        """The rules for a frontend's graph and a target; two of one name are refused."""
        pairs = self._values("quantizeml_rules", object, frontend=frontend, target=target)
        return tuple(self._unique("rule", [(plugin, rule.name, rule) for plugin, rule in pairs]).values())

    def rewrites(self, frontend: str, target: Target) -> tuple[Any, ...]:
        """The rewrites for a frontend's graph and a target; two of one name are refused."""
        pairs = self._values("quantizeml_rewrites", object, frontend=frontend, target=target)
        return tuple(self._unique("rewrite", [(plugin, rewrite.name, rewrite) for plugin, rewrite in pairs]).values())

    def legalizations(self, target: Target) -> tuple[Legalization, ...]:
        """The rewrites of blocks that a target does not run; two of one name are refused."""
        pairs = self._values("quantizeml_legalizations", object, target=target)
        return tuple(self._unique("legalization", [(plugin, made.name, made) for plugin, made in pairs]).values())

    def findings(self, program: Program, target: Target, frontend: str) -> tuple[Finding, ...]:
        """What the plugins have to tell about a program."""
        return tuple(found for _, found in self._values("quantizeml_findings", object, program=program, target=target, frontend=frontend))

    def commands(self) -> Mapping[str, CommandInfo]:
        """Commands of the CLI by name."""
        pairs = self._values("quantizeml_commands", CommandInfo)
        return self._unique("command", [(plugin, info.name, info) for plugin, info in pairs])

    def _values(self, hook: str, kind: type[T], **arguments: Any) -> list[tuple[Plugin, T]]:
        callers = [(plugin, plugin.hooks[hook]) for plugin in self.plugins if hook in plugin.hooks]
        return [(plugin, value) for plugin, call in callers for value in self._call(plugin, hook, call, kind, arguments)]

    def _call(self, plugin: Plugin, hook: str, call: Callable[..., Any], kind: type[T], arguments: Mapping[str, Any]) -> tuple[T, ...]:
        try:
            values = call(**arguments)
        except QuantizeMLError:
            raise
        except Exception as error:  # a stranger's hook may raise anything; the message names who it is
            raise self._broken(plugin, f"`{hook}` raised {type(error).__name__}: {error}") from error
        if not isinstance(values, (tuple, list)) or not all(isinstance(value, kind) for value in values):
            raise self._broken(plugin, f"`{hook}` returned {values!r}, not a tuple of {kind.__name__}")
        return tuple(values)

    def _broken(self, plugin: Plugin, what: str) -> PluginError:
        return PluginError(what, where=str(plugin), do=skip(plugin, self.plugins))

    def _unique(self, what: str, items: Iterable[tuple[Plugin, str, T]]) -> dict[str, T]:
        owners: dict[str, Plugin] = {}
        result: dict[str, T] = {}
        for plugin, key, value in items:
            if key in owners:
                raise self._broken(plugin, f"{what} `{key}` is also brought by {owners[key]}")
            owners[key], result[key] = plugin, value
        return result

    def _no_frontend(self, model: Any, keys: tuple[str, ...]) -> QuantizeMLError:
        where = str(model) if keys[0].startswith(".") else f"model of class {type(model).__qualname__}"
        installed = {suffix for info in self.frontends().values() for suffix in info.suffixes}
        suffixes = ", ".join(sorted(installed | {key for key in FRONTEND_DISTRIBUTIONS if key.startswith(".")}))
        if kind := next((UNSUPPORTED[key] for key in keys if key in UNSUPPORTED), None):
            return ModelError(f"{kind} models in memory are not supported", where=where, allowed=suffixes,
                              do="Save it as .h5 and give that file: Keras 3 reads it")
        distribution = next((FRONTEND_DISTRIBUTIONS[key] for key in keys if key in FRONTEND_DISTRIBUTIONS), None)
        if distribution is None:
            return ModelError("no frontend reads this kind of model", where=where, allowed=suffixes, do="Give a model of such a kind")
        if any(p.distribution == distribution and not p.selected for p in self.plugins):
            return PluginError(f"its frontend, {distribution}, is not selected", where=where, do="Add it to QUANTIZEML_PLUGINS")
        return PluginError("the frontend for it is not installed", where=where, do=f"Run `pip install {distribution}`")


def load_object(path: str) -> Any:
    """What `"package.module:attribute"` names; PluginError when it cannot be imported."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"cannot be imported: {error}", where=f"`{path}`",
                          do=f"Reinstall the distribution that brings `{module.partition('.')[0]}`") from error


def _keys(model: Any) -> tuple[str, ...]:
    if isinstance(model, (str, os.PathLike)):
        return (Path(model).suffix.lower() or ".",)
    return tuple(cls.__module__.partition(".")[0] for cls in type(model).__mro__)
