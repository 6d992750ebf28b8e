"""What starts quickly: help, wrong options and ``import cvg`` load none of the libraries that compute."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cvg.__main__ import COMMANDS

HEAVY = ("torch", "diffusers", "transformers", "lightning", "spacy", "scipy")
LOADED = f"""
import sys
sys.argv = ["command", *sys.argv[1:]]
try:
    {{}}
finally:
    print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("what", "args"),
    [
        ("import cvg; dir(cvg)", ()),
        ("import runpy; runpy.run_module('cvg', run_name='__main__')", ("--help",)),
        ("import runpy; runpy.run_module('cvg.sample', run_name='__main__')", ("--help",)),
        ("import runpy; runpy.run_module('cvg.sample', run_name='__main__')", ("--prompt", "x", "--steps", "none")),
        ("import runpy; runpy.run_module('cvg.sample', run_name='__main__')", ("--prompt", "[]")),
    ],
)
def test_nothing_that_computes_is_loaded(what: str, args: tuple[str, ...]) -> None:
    ended = subprocess.run([sys.executable, "-c", LOADED.format(what), *args], capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "loaded:", ended.stdout + ended.stderr


HELP = """
import contextlib, io, json, os, runpy, sys
import jsonargparse, lightning, matplotlib, scipy, torch, webdataset
for module in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv, told, status = [module, "--help"], io.StringIO(), None
        with contextlib.redirect_stdout(told):
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as ended:
                status = ended.code
        print(json.dumps([module, status, "usage:" in told.getvalue(), "diffusers" in sys.modules]), flush=True)
        os._exit(0)
    os.wait()
"""


def test_help_loads_no_diffusers_and_says_nothing_of_installed_libraries() -> None:
    """In processes that have some libraries from the first: loading them would take most of the time."""
    modules = [*(module for module, _ in COMMANDS.values()), "benchmarks.scale"]
    ended = subprocess.run([sys.executable, "-c", HELP, *modules], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line[:3] for line in told] == [[module, 0, True] for module in modules]
    assert [module for module, *_, diffusers in told if diffusers] == ["benchmarks.scale"]


def test_lazy_packages_have_what_their_stubs_name() -> None:
    import cvg.classifier
    import cvg.generators

    for package in (cvg, cvg.classifier, cvg.generators):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError):
            _ = package.nothing
