"""What the README and the pages of docs/ tell a reader to type works: commands are parsed, Python is run.

A block that cannot be run here is marked on the line above it: ``<!-- needs: weights -->`` (released weights),
``<!-- needs: GPU -->``. Its commands are still parsed, its Python still compiled.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from cvg.__main__ import COMMANDS, main
from cvg.common import cli
from cvg.common.sizes import Size
from cvg.guidance.sampler import GuidedSampler, SampleResult

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "history" not in path.parts  # commands of their time
)
FENCE = re.compile(r"^(?:<!-- needs: (?P<needs>[\w ,]+) -->\n+)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
ELSEWHERE = {"cp", "git", "hf", "mv", "pip", "source", "torchrun"}
"""Commands that are not this project's."""


STEPS = 12
"""Denoising steps at most, which the shipped classifiers were trained with; the pages say 50, or nothing."""
WHOLE, SMALL = ('"num_frames": 13, "height": 64, "width": 64', '"num_frames": 5, "height": 32, "width": 32')
"""Of a pipeline's own call, the size that pages say of its videos, and one that takes a fraction of the time."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str
    needs: str | None


@functools.cache
def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer((ROOT / page).read_text())
    return [Block(page, match["language"], match["text"], match["needs"]) for match in found]


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block, comments left out, lines that go on joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


TYPED = {
    shlex.join(words): pytest.param(words, id=f"{page.name}: {shlex.join(words)[:100]}")
    for page in PAGES
    for block in blocks(page)
    if block.language in ("bash", "sh")
    for words in commands(block.text)
}
"""Each command once, however many pages have it."""


def recipe(target: list[str]) -> list[list[str]]:
    """The Python commands that ``make TARGET VARIABLE=...`` would run, after `setup`."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(["make", "-n", *target], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    given: dict[str, str] = dict(re.findall(r"^(\w+) = (.*)$", (ROOT / "Makefile").read_text(), re.M))
    given |= dict(word.split("=", 1) for word in target if "=" in word)
    lines = [line for line in made.stdout.splitlines() if line.startswith(".venv/bin/python -m ") and "pip" not in line]
    return [shlex.split(re.sub(r"\$(\w+)", lambda name: given.get(name[1], name[0]), line)) for line in lines]


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module that a command runs, and its arguments."""
    if words[0] == "cvg":
        return COMMANDS[words[1]][0], words[2:]
    assert words[1] == "-m", f"neither a module nor the command cvg: {shlex.join(words)}"
    return words[2], words[3:]


@pytest.fixture
def parsed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands read and check their options, and stop there."""
    run = cli.run

    def parse(function: Callable[..., Any], *args: Any, **options: Any) -> None:
        run(functools.wraps(function)(lambda **parsed: None), *args, **options)

    monkeypatch.setattr(cli, "run", parse)


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Let a command's own parser read its options."""
    module, arguments = module_of(words)
    if module.split(".")[0] not in ("cvg", "data_prep", "benchmarks"):
        assert importlib.util.find_spec(module) is not None, f"no module {module}"
        return
    stop = ["--print_config"] if module == "cvg.train" else []  # Lightning's own command line
    monkeypatch.setattr(sys, "argv", [words[0], *arguments, *stop])
    code: str | int | None = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
        code = stopped.code
    assert not code, f"{shlex.join(words)}: {capsys.readouterr().err}"


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a page registers is forgotten after it."""
    tables = [
        table
        for name, module in list(sys.modules.items())
        if name.startswith("cvg.") and name.endswith((".registry", "backbones"))
        for key, table in vars(module).items()
        if key.isupper() and isinstance(table, dict)
    ]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The small models compute no faster on more threads, and far slower beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("parsed_only")
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("words", TYPED.values())
def test_commands_are_understood(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    if words[0] == "make":
        for line in recipe(words[1:]):
            parse(line, monkeypatch, capsys)
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
    elif words[0] not in ELSEWHERE:
        parse(words, monkeypatch, capsys)


CHEAP = ["make help", "cvg --help", "cvg render --out runs/clips --clips 120"]
"""Typed commands that take seconds. `tests/test_packaging.py` takes inversion, training and sampling in a row."""


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", CHEAP)
def test_cheap_commands_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert any(command in (ROOT / page).read_text() for page in PAGES)
    program, *arguments = command.split()
    if program == "make":
        subprocess.run([program, *arguments], cwd=ROOT, check=True, capture_output=True)
        return
    monkeypatch.chdir(tmp_path)
    few = ["--clips", "6"] if "render" in arguments else []  # of two options that are alike the later one holds
    monkeypatch.setattr(sys, "argv", [program, *arguments, *few])
    main()
    if few:
        assert len((tmp_path / "runs/clips/manifest.jsonl").read_text().splitlines()) == 6


NAMED = re.compile(r"[`\"]((?:cvg|data_prep|benchmarks|tests|lightning_configs|docs)(?:/[\w./-]+|(?:\.\w+)+))[` ]")
TO_BE_MADE = ("FAMILY", "prefixed")
"""Files that a reader is told to write."""


def exists(name: str) -> bool:
    """Whether a file, or a module or what is in one, is there."""
    if "/" in name:
        return (ROOT / name).exists()
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        if (ROOT / "/".join(parts[:cut])).exists() or (ROOT / f"{'/'.join(parts[:cut])}.py").exists():
            found: Any = importlib.import_module(".".join(parts[:cut]))
            return all((found := getattr(found, part, None)) is not None for part in parts[cut:])
    return False


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_names_in_the_text_exist(page: Path) -> None:
    names = set(NAMED.findall((ROOT / page).read_text()))
    assert not [name for name in sorted(names) if not exists(name) and not any(made in name for made in TO_BE_MADE)]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))], ids=str)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, in order, as one program in an empty folder."""
    monkeypatch.chdir(tmp_path)
    sample = GuidedSampler.__call__

    def quickly(self: GuidedSampler, *args: Any, steps: int = STEPS, **options: Any) -> SampleResult:
        return sample(self, *args, **{"size": Size(5, 48, 48), **options, "steps": min(steps, STEPS)})

    monkeypatch.setattr(GuidedSampler, "__call__", quickly)
    namespace: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(block for block in blocks(page) if block.language == "python"):
        code = compile(block.text.replace(WHOLE, SMALL), f"{page}, Python block {number + 1}", "exec")
        if block.needs is None:
            exec(code, namespace)
