from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cvg.common import cli
from cvg.common.errors import UserError


@dataclass
class Size:
    """A size.

    Args:
        width: pixels across.
    """

    width: int = 64


def command(
    data: Path,
    size: Size,
    steps: int = 20,
    entities: list[str] | None = None,
    mode: Literal["fast", "exact"] = "fast",
    dry: bool = False,
) -> dict[str, object]:
    """Do the thing.

    Args:
        data: the manifest to read.
        size: how large.
        steps: number of steps.
        entities: entity phrases.
        mode: how to do it.
        dry: do nothing.

    Returns:
        All of it.
    """
    if str(data) == "bad":
        raise UserError("manifest bad: is bad; give a good one")
    if str(data) == "slow":
        raise KeyboardInterrupt
    return {"data": data, "width": size.width, "steps": steps, "entities": entities, "mode": mode, "dry": dry}


def run(*args: str) -> dict[str, object]:
    result: dict[str, object] = cli.run(command, "python -m thing", args=list(args))
    return result


def test_typed_options() -> None:
    result = run("--data", "a.jsonl", "--steps=3", "--entities=[dog, red car]", "--size.width=32", "--dry=true")
    assert result == {
        "data": Path("a.jsonl"),
        "width": 32,
        "steps": 3,
        "entities": ["dog", "red car"],
        "mode": "fast",
        "dry": True,
    }


def test_config_file_and_override(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--data=a.jsonl", "--steps=7", "--print_config")
    assert caught.value.code == 0
    config = tmp_path / "config.yaml"
    config.write_text(capsys.readouterr().out)
    assert run("--config", str(config))["steps"] == 7
    assert run("--config", str(config), "--steps=8")["steps"] == 8


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for expected in (
        "python -m thing",
        "Do the thing.",
        "--config",
        "--print_config",
        "the manifest to read",
        "number of steps",
        "entity phrases",
        "pixels across",
        "{fast,exact}",
        "default: 20",
    ):
        assert expected in text


def test_description_replaces_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(command, "thing", "Something else.", args=["--help"])
    assert "Something else." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "data"),
        (("--data=a", "--steps=many"), "steps"),
        (("--data=a", "--mode=slow"), "mode"),
        (("--data=a", "--speed=1"), "speed"),
        (("--data=a", "--config=missing.yaml"), "missing.yaml"),
        (("--data=bad",), "error: manifest bad: is bad; give a good one\n"),
    ],
)
def test_bad_input_exits_2_without_a_traceback(
    args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*args)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_interrupt_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--data=slow")
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_dashes_in_option_names_are_underscores_and_values_stay() -> None:
    def sizes(batch_size: int, name: str = "x") -> tuple[int, str]:
        """Return them.

        Args:
            batch_size: a number.
            name: a name.
        """
        return batch_size, name

    assert cli.run(sizes, "python -m thing", args=["--batch-size=3", "--name", "a-b"]) == (3, "a-b")
    assert cli.run(sizes, "python -m thing", args=["--batch-size", "4"]) == (4, "x")
