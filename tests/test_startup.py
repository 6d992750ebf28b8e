"""What starts quickly: help, wrong options and ``import cvg`` load none of the libraries that compute."""

from __future__ import annotations

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


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS.values()])
def test_help_loads_no_diffusers_and_says_nothing_of_installed_libraries(module: str) -> None:
    what = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", LOADED.format(what), "--help"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "") and "usage:" in ended.stdout
    loaded = ended.stdout.splitlines()[-1]
    assert loaded.startswith("loaded:") and "diffusers" not in loaded


def test_lazy_packages_have_what_their_stubs_name() -> None:
    import cvg.classifier
    import cvg.generators

    for package in (cvg, cvg.classifier, cvg.generators):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError):
            _ = package.nothing


def test_help_of_a_benchmark_says_nothing_of_installed_libraries() -> None:
    ended = subprocess.run([sys.executable, "-m", "benchmarks.scale", "--help"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "") and "usage:" in ended.stdout
