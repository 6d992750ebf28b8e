"""The command that has all others, and the names of the package."""

import subprocess
import sys

import pytest

import cvg
from cvg.__main__ import COMMANDS, main
from cvg.common.cli import called_as


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_it_lists_every_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(args)
    text = capsys.readouterr().out
    for name, (_, what) in COMMANDS.items():
        assert f"  {name} " in text and what in text


def test_it_tells_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"cvg {cvg.__version__}\n"


def test_an_unknown_command_is_an_error_that_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["sampel"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: command 'sampel': unknown; known: sample, evaluate, ")


@pytest.mark.parametrize(
    ("name", "wrong", "usage"),
    [("render", "--kind=x", "cvg render --help"), ("train", "fit --seed=x", "cvg train fit --help")],
)
def test_a_command_runs_under_its_own_name(
    name: str, wrong: str, usage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cvg"])
    before = called_as.set(None)
    try:
        with pytest.raises(SystemExit) as caught:
            main([name, *wrong.split()])
        assert called_as.get() is None  # the name is that of this call
    finally:
        called_as.reset(before)
    error, where = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and error.startswith("error: ") and where == f"all options: {usage}"


def test_importing_the_package_imports_no_library() -> None:
    code = "import cvg, cvg.__main__, sys; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_public_names_are_there() -> None:
    assert set(cvg.__all__) <= set(dir(cvg))
    for name in cvg.__all__:
        assert getattr(cvg, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        cvg.smaple  # noqa: B018
