"""Dependencies point one way, through any number of modules."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from cvg.generators.registry import ADAPTERS

ROOT = Path(__file__).parent.parent


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for folder in ("cvg", "data_prep") for path in (ROOT / folder).rglob("*.py")}


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports at run time, submodules of our own resolved."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def reachable(module: str) -> set[str]:
    """Every module, ours or not, that importing ``module`` may import."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for name in imports(todo.pop()):
            if name not in seen:
                seen.add(name)
                if name in MODULES:
                    todo.append(name)
    return seen


def reaches(module: str, target: str) -> bool:
    return any(name == target or name.startswith(target + ".") for name in reachable(module))


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("cvg")])
def test_cvg_never_imports_data_prep(module: str) -> None:
    assert not reaches(module, "data_prep")


NEEDS_NO_GENERATOR = [
    "cvg.train",
    "cvg.training.module",
    "cvg.training.datamodule",
    "cvg.export",
    "cvg.classifier.model",
    "cvg.inspect",
]


@pytest.mark.parametrize("module", NEEDS_NO_GENERATOR)
def test_training_and_inspection_never_import_a_generator(module: str) -> None:
    assert not reaches(module, "cvg.generators")
    assert not reaches(module, "diffusers")


@pytest.mark.parametrize(
    "module", ["cvg.guidance.guide", "cvg.guidance.sampler", "cvg.sample", "cvg.evaluate", "cvg.report", "cvg.inspect"]
)
def test_sampling_never_imports_training(module: str) -> None:
    assert not reaches(module, "lightning")
    assert not reaches(module, "cvg.training.module")


def test_only_one_module_touches_ffmpeg() -> None:
    assert {name for name in MODULES if {"ffmpeg", "imageio_ffmpeg"} & imports(name)} == {"cvg.media.video"}


def test_only_its_adapter_knows_a_family() -> None:
    adapters = {f"cvg.generators.families.{target.split('.')[0]}" for target in ADAPTERS.values()}
    training = {name for name in MODULES if name.startswith("data_prep.pretrain")}
    words = {*ADAPTERS, "attn1"}  # "attn2", what most call it, is the default of `Family.attention_name`
    named = {name for name, path in MODULES.items() if any(word in path.read_text() for word in words)}
    assert named <= adapters | training | {"cvg.generators.registry"}


def messages(path: Path) -> list[str]:
    """The texts of a module but its docstrings."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [str(node.value) for node in texts if id(node) not in docs]


def test_only_commands_name_flags() -> None:
    """A notebook's user has none to pass."""
    commands = {name for name, path in MODULES.items() if "__main__" in path.read_text()} | {"cvg.common.cli"}
    assert {"cvg.sample", "data_prep.invert"} <= commands
    named = {
        (name, text)
        for name in MODULES.keys() - commands
        for text in messages(MODULES[name])
        if re.search(r"(?<![\w-])--[a-z]", text)
    }
    assert not named


def test_the_graph_is_seen() -> None:
    """The tests above would pass on an empty graph."""
    assert (
        reaches("cvg.sample", "diffusers") and reaches("cvg.train", "lightning") and reaches("data_prep.invert", "cvg")
    )
