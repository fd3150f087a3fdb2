"""Discovery and registry: broken plugins and collisions are refused by name, and nothing depends on the order of installation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quantizeml_core.builtin import GENERIC
from quantizeml_core.discovery import Plugin, discover, inspect
from quantizeml_core.errors import ModelError, PluginError, UsageError
from quantizeml_core.hooks import CommandInfo, FrontendInfo, hookimpl
from quantizeml_core.plugins import Registry, load_object
from quantizeml_core.target import Target


def toy_target(name: str) -> Target:
    return Target.from_json({**GENERIC.to_json(), "name": name, "distribution": "toys"})


class Toy:
    """A plugin with one target and one rule."""

    def __init__(self, target: str = "toy", rule: str = "toy_rule"):
        self._target, self._rule = target, rule

    @hookimpl
    def quantizeml_targets(self) -> tuple[Target, ...]:
        return (toy_target(self._target),)

    @hookimpl
    def quantizeml_rules(self, frontend: str) -> list[Any]:
        return [SimpleNamespace(name=f"{frontend}_{self._rule}")]


class Reader:
    """A plugin with one frontend."""

    def __init__(self, name: str = "toy", suffix: str = ".toy", module: str = "toys"):
        self._info = FrontendInfo(name, (suffix,), (module,), "test_toys:Toys")

    @hookimpl
    def quantizeml_frontends(self) -> tuple[FrontendInfo, ...]:
        return (self._info,)


class Returning:
    """A plugin whose hook answers with whatever it is given, or raises it."""

    def __init__(self, answer: Any):
        self._answer = answer

    @hookimpl
    def quantizeml_commands(self) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def registry(**implementations: object) -> Registry:
    return Registry([inspect(plugin, name, f"quantizeml-{name}", "1.0") for name, plugin in implementations.items()])


class Installed(Distribution):
    """A distribution that exists in this test only."""

    def __init__(self, name: str):
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        return Path(path)


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "quantizeml")._for(Installed(f"quantizeml-{name}"))  # type: ignore[attr-defined]


def found(environ: Mapping[str, str], *entries: EntryPoint) -> dict[str, Plugin]:
    return {plugin.name: plugin for plugin in discover(environ, entries)}


AKIDA = entry("akida2", "quantizeml_akida2.plugin")
BROKEN = entry("broken", "no_such_module.plugin")


def test_the_core_enters_through_the_same_door() -> None:
    plugins = found({})
    assert list(plugins) == ["builtin"] and set(plugins["builtin"].hooks) == {"quantizeml_targets", "quantizeml_legalizations", "quantizeml_commands"}


@pytest.mark.parametrize(("selection", "selected"), [
    (None, True), ("", False), ("akida2", True), ("quantizeml_akida2", True), ("quantizeml-AKIDA2, ", True),
])
def test_selection(selection: str | None, selected: bool) -> None:
    plugins = found({} if selection is None else {"QUANTIZEML_PLUGINS": selection}, AKIDA)
    assert plugins["akida2"].selected is selected and bool(plugins["akida2"].hooks) is selected


def test_a_plugin_that_is_not_selected_is_not_imported() -> None:
    assert not found({"QUANTIZEML_PLUGINS": "akida2"}, AKIDA, BROKEN)["broken"].error


def test_a_selected_plugin_that_is_absent_is_an_error() -> None:
    assert "no such plugin is installed" in found({"QUANTIZEML_PLUGINS": "akida2,nope"}, AKIDA)["nope"].error


def test_a_broken_plugin_is_a_value_until_it_is_needed() -> None:
    plugins = discover({}, [BROKEN, AKIDA])
    assert "ModuleNotFoundError" in plugins[-1].error
    with pytest.raises(PluginError, match=r"^quantizeml-broken 1.0: .*cannot be imported.*skip it with QUANTIZEML_PLUGINS=akida2\.$"):
        Registry(plugins)


class UnknownHook:
    @hookimpl
    def quantizeml_colours(self) -> tuple[()]:
        return ()


class UnknownArgument:
    @hookimpl
    def quantizeml_rules(self, colour: str) -> tuple[()]:
        return ()


class Unmarked:
    def quantizeml_targets(self) -> tuple[()]:
        return ()


class Wrapper:
    @hookimpl(wrapper=True)
    def quantizeml_targets(self) -> Any:
        return (yield)


@pytest.mark.parametrize(("implementation", "message"), [
    (UnknownHook(), "quantizeml_colours"), (UnknownArgument(), "colour"), (Unmarked(), "not marked with @hookimpl"),
    (Wrapper(), "hook wrapper"),
])
def test_a_hook_that_would_never_be_called_is_an_error(implementation: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        registry(toy=implementation)


@pytest.mark.parametrize(("answer", "message"), [
    ("quantize", "returned 'quantize', not a tuple of CommandInfo"), (None, "returned None"), (("quantize",), "not a tuple of CommandInfo"),
    (RuntimeError("boom"), "`quantizeml_commands` raised RuntimeError: boom"),
])
def test_a_hook_that_misbehaves_names_its_distribution(answer: Any, message: str) -> None:
    with pytest.raises(PluginError, match=f"^quantizeml-toy 1.0: .*{message}"):
        registry(toy=Returning(answer)).commands()


@pytest.mark.parametrize(("one", "other", "ask", "message"), [
    (Toy("same"), Toy("same", "b"), "targets", "target `same`"),
    (Reader("same"), Reader("same", ".b", "b"), "frontends", "frontend `same`"),
    (Reader("a"), Reader("b", ".toy", "b"), "frontends", "frontend for `.toy`"),
    (Reader("a"), Reader("b", ".b", "toys"), "frontends", "frontend for `toys`"),
    (Returning((CommandInfo("c", "", "a:b"),)), Returning([CommandInfo("c", "", "a:b")]), "commands", "command `c`"),
])
def test_collisions_are_refused(one: object, other: object, ask: str, message: str) -> None:
    with pytest.raises(PluginError, match=f"^quantizeml-second 1.0: {message} is also brought by quantizeml-first 1.0"):
        getattr(registry(first=one, second=other), ask)()


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(PluginError, match="rule `onnx_same` is also brought by"):
        registry(a=Toy("a", "same"), b=Toy("b", "same")).rules("onnx", GENERIC)


def test_hooks_may_take_fewer_arguments() -> None:
    assert [rule.name for rule in registry(toy=Toy()).rules("onnx", GENERIC)] == ["onnx_toy_rule"]


def test_the_order_of_installation_does_not_matter() -> None:
    entries = [AKIDA, entry("akida1", "quantizeml_akida1.plugin"), entry("onnx", "quantizeml_onnx.plugin")]
    answers = {tuple(Registry(discover({}, order)).targets()) for order in itertools.permutations(entries)}
    assert answers == {("generic", "cpu", "akida1", "akida1@2023", "akida1@pre-production", "akida2", "akida2@2023")}


def test_unknown_target_names_what_there_is_and_where_others_are() -> None:
    with pytest.raises(UsageError, match=r"Allowed: generic, cpu, akida2, akida2@2023, or a \.json file\..*akida1 \(quantizeml-akida1\)\.$"):
        Registry(discover({}, [AKIDA])).target("akida3")


def test_a_target_passes_through() -> None:
    assert registry().target(GENERIC) is GENERIC


@pytest.mark.parametrize(("model", "error", "message"), [
    ("net.onnx", PluginError, "net.onnx: the frontend for it is not installed. Run `pip install quantizeml-onnx`"),
    (Path("net.h5"), PluginError, "the frontend for it is not installed. Run `pip install quantizeml-keras`"),
    ("net.KERAS", PluginError, "Run `pip install quantizeml-keras`"),
    ("net.pt", ModelError, "no frontend reads this kind of model"),
    ("net", ModelError, "no frontend reads this kind of model"),
    (3, ModelError, "model of class int: no frontend reads"),
    (type("Model", (), {"__module__": "tf_keras.src.models"})(), ModelError, "tf_keras models in memory are not supported.*Save it as .h5"),
])
def test_a_model_without_a_frontend(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        registry().frontend_for(model)


def test_a_frontend_that_is_not_selected() -> None:
    plugins = discover({"QUANTIZEML_PLUGINS": ""}, [entry("onnx", "quantizeml_onnx.plugin")])
    with pytest.raises(PluginError, match="quantizeml-onnx, is not selected.*QUANTIZEML_PLUGINS"):
        Registry(plugins).frontend_for("net.onnx")


def test_a_frontend_is_found_by_suffix_and_by_base_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Toys:
        name = "toy"

    base = type("Net", (), {"__module__": "toys.models"})
    derived = type("MyNet", (base,), {"__module__": "__main__"})
    monkeypatch.setattr("quantizeml_core.plugins.load_object", lambda path: Toys)
    reader = registry(toy=Reader())
    assert all(isinstance(reader.frontend_for(model), Toys) for model in ("net.TOY", Path("net.toy"), derived()))


@pytest.mark.parametrize("path", ["no_such_module:x", "quantizeml_core.errors:Nope"])
def test_a_loader_that_leads_nowhere(path: str) -> None:
    with pytest.raises(PluginError, match="cannot be imported.*Reinstall the distribution"):
        load_object(path)
