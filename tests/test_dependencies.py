"""The house: what may import what, and which module alone knows a thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cvg.generators.registry import ADAPTERS

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "application reporting evaluation judging training probing guidance classifier shards media generators grounding "
    "diffusion composition label_sets common"
).split()
"""Of cvg, from top to bottom: a package imports packages below it alone. The embedded worlds are tenants beside it."""
WORLDS = ("cvg.shapes",)
COMMANDS = {
    "cvg.app",
    "cvg.train",
    "cvg.sample",
    "cvg.evaluate",
    "cvg.inspect",
    "cvg.report",
    "cvg.export",
    "cvg.parse",
    "cvg.labels",
    "data_prep.invert",
    "data_prep.collect",
    "data_prep.label",
    "data_prep.synthesize",
    "data_prep.probe",
    "data_prep.render",
    "data_prep.demo",
    "data_prep.world",
}
REGISTRIES = {"cvg.common.hub", "cvg.judging.registry", "cvg.evaluation.suites.registry"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for folder in ("cvg", "data_prep") for path in (ROOT / folder).rglob("*.py")}
LIBRARY = sorted(name for name in MODULES if name.startswith("cvg.") and name not in COMMANDS)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports at run time, submodules of our own resolved."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name in MODULES}


@cache
def reachable(module: str) -> frozenset[str]:
    """Every module, ours or not, that importing ``module`` may import."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for name in imports(todo.pop()):
            if name not in seen:
                seen.add(name)
                if name in MODULES:
                    todo.append(name)
    return frozenset(seen)


def reaches(module: str, target: str) -> bool:
    return any(within(name, target) for name in reachable(module))


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def package(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def strings(module: str) -> Iterator[str]:
    """The string literals of a module, but for its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    spoken = set()
    for node in ast.walk(tree(module)):
        body = node.body if isinstance(node, documented) else []
        spoken |= {id(line.value) for line in body if isinstance(line, ast.Expr)}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
            yield node.value


def test_cvg_never_imports_data_prep() -> None:
    assert not [name for name in MODULES if within(name, "cvg") and reaches(name, "data_prep")]


def test_every_package_has_its_place() -> None:
    assert {package(name) for name in LIBRARY if "." in name} - {"shapes", "__main__"} == set(PACKAGES)


def test_arrows_point_down() -> None:
    floors = {name: PACKAGES.index(package(name)) for name in LIBRARY if package(name) in PACKAGES}
    arrows = [(name, other) for name in floors for other in ours(name) if other in floors]
    assert not [(name, other) for name, other in arrows if floors[other] < floors[name]]


def test_nothing_imports_a_command() -> None:
    assert not [(name, command) for name in MODULES for command in ours(name) & COMMANDS]


def test_worlds_are_tenants() -> None:
    """Only their own files, what makes them, and registries (which name them in strings) know an embedded world."""
    allowed = {"data_prep.render", "data_prep.demo", *REGISTRIES}
    knowing = {
        name
        for name in MODULES
        if any(within(other, world) for other in imports(name) for world in WORLDS)
        and not any(within(name, room) for room in (*WORLDS, "data_prep.pretrain"))
    }
    assert knowing <= allowed


def of(packages: str, commands: str) -> list[str]:
    """The modules of some packages, and some commands."""
    return [name for name in MODULES if package(name) in packages.split() or name in commands.split()]


@pytest.mark.parametrize("target", ["cvg.generators", "diffusers"])
def test_training_and_inspection_never_import_a_generator(target: str) -> None:
    modules = of("training classifier shards probing", "cvg.train cvg.inspect")
    assert not [name for name in modules if reaches(name, target)]


@pytest.mark.parametrize("target", ["lightning", "cvg.training"])
def test_sampling_never_imports_training(target: str) -> None:
    modules = of(
        "guidance generators judging evaluation reporting application",
        "cvg.app cvg.sample cvg.evaluate cvg.report cvg.inspect",
    )
    assert not [name for name in modules if reaches(name, target)]


def test_only_one_module_runs_ffmpeg() -> None:
    assert {name for name in MODULES if {"ffmpeg", "imageio_ffmpeg"} & imports(name)} == {"cvg.media.video"}


def test_only_shards_know_the_bytes_of_a_shard() -> None:
    readers = {name for name in MODULES if {"webdataset", "tarfile"} & {other.split(".")[0] for other in imports(name)}}
    downloaded = {"data_prep.sources.captioned"}  # reads tars of videos and captions, which are no shards
    assert readers - downloaded and all(within(name, "cvg.shards") for name in readers - downloaded)
    named = {name for name in MODULES if any(".tar" in text or "maps.safetensors" in text for text in strings(name))}
    assert named and all(within(name, "cvg.shards") for name in named - downloaded)


def test_only_its_adapter_knows_a_family() -> None:
    adapters = {f"cvg.generators.families.{target.split('.')[0]}" for target in ADAPTERS.values()}
    training = {name for name in MODULES if name.startswith("data_prep.pretrain")}
    words = {*ADAPTERS, "attn1"}  # "attn2", what most call it, is the default of `Family.attention_name`
    named = {name for name, path in MODULES.items() if any(word in path.read_text() for word in words)}
    assert named <= adapters | training | {"cvg.generators.registry"}


def test_only_commands_name_flags() -> None:
    """A notebook's user has none to pass. (Sentences alone are looked at: an option's bare name is no message.)"""
    modules = (name for name in LIBRARY if name not in ("cvg.common.cli", "cvg.__main__"))
    flag = re.compile(r"(?<![\w-])--[a-z]")
    assert not [(name, text) for name in modules for text in strings(name) if " " in text and flag.search(text)]


def test_only_commands_print() -> None:
    calls = ((name, node.func) for name in LIBRARY for node in ast.walk(tree(name)) if isinstance(node, ast.Call))
    printing = {name for name, call in calls if isinstance(call, ast.Name) and call.id == "print"}
    assert printing <= {"cvg.common.cli", "cvg.__main__"}


def test_files_and_functions_are_short() -> None:
    """As CONTRIBUTING.md has it: a file at most 300 lines, a function at most 60 besides its docstring."""
    modules = [name for name in MODULES if within(name, "cvg")]
    assert not [name for name in modules if len(MODULES[name].read_text().splitlines()) > 300]
    functions = (
        (name, node)
        for name in modules
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert not [(name, node.name) for name, node in functions if _own_lines(node) > 60]


def _own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _lines(function) - (_lines(function.body[0]) if ast.get_docstring(function) else 0)


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_the_graph_is_seen() -> None:
    """The tests above would pass on an empty graph."""
    assert (
        reaches("cvg.sample", "diffusers") and reaches("cvg.train", "lightning") and reaches("data_prep.invert", "cvg")
    )
