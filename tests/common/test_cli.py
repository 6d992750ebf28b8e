from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cvg import sample
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


@dataclass(frozen=True)
class Where:
    """Where it runs.

    Args:
        device: the device, see :class:`torch.device`.
        steps: how many ``steps`` there.
        width: of it.
    """

    device: str = "cpu"
    steps: int = 1
    width: int = 2


def nested(size: Size = Size(), where: Where = Where(), steps: int = 20) -> tuple[Size, Where, int]:  # noqa: B008
    """Do it there.

    Args:
        size: how large.
        where: where.
        steps: number of steps.
    """
    return size, where, steps


def test_options_of_a_group_have_short_names_unless_two_end_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*args: str) -> tuple[Size, Where, int]:
        found: tuple[Size, Where, int] = cli.run(nested, "python -m thing", args=list(args))
        return found

    assert run("--device=cuda", "--steps=3") == (Size(), Where("cuda"), 3)
    assert run("--where.device", "cuda", "--where.steps=3") == (Size(), Where("cuda", 3), 20)
    for text in ("{device: cuda, steps: 3, where: {steps: 4}}", "{where: {device: cuda, steps: 4}, steps: 3}"):
        (tmp_path / "config.yaml").write_text(text)
        assert run(f"--config={tmp_path / 'config.yaml'}") == (Size(), Where("cuda", 4), 3)
        assert run(f"--config={tmp_path / 'config.yaml'}", "--device=cpu") == (Size(), Where("cpu", 4), 3)
    for wrong in ("--width=3", "--dev=cuda"):  # of two groups; an abbreviation
        with pytest.raises(SystemExit) as caught:
            run(wrong)
        assert caught.value.code == 2 and f"unrecognized arguments: {wrong}" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("{width: 3}")
    with pytest.raises(SystemExit):
        run(f"--config={tmp_path / 'config.yaml'}")
    assert "width" in capsys.readouterr().err


def test_help_has_short_names_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(nested, "python -m thing", args=["--help"])
    text = capsys.readouterr().out
    assert "--where.device DEVICE, --device DEVICE" in text and "--width" not in text
    assert "see torch.device" in text and "how many steps there" in text and "`" not in text


def test_a_usage_error_takes_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, expected in (
        ("--steps=x", 'error: Parser key "steps": Expected a int. Got value: x'),
        (
            "--entities=x",
            'error: Parser key "entities": Expected one of list[str], null. Got value: x'
            "; a list is written as '[a, b]'",
        ),
    ):
        with pytest.raises(SystemExit):
            run("--data=a", wrong)
        assert capsys.readouterr().err == f"{expected}\nall options: python -m thing --help\n"


def test_a_command_adds_the_options_that_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(command, "thing", args=["--data=bad"], remedies={UserError: "see --data", KeyError: "no"})
    assert capsys.readouterr().err == "error: manifest bad: is bad; give a good one; see --data\n"


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


def test_a_prompt_that_is_not_understood_names_the_options_that_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(sample.main, "sample", args=["--prompt=a dog behind a car"], remedies=sample.REMEDIES)
    said = capsys.readouterr().err
    assert (
        "no known relation" in said
        and "rules" not in said
        and said.endswith("; --entities and --label say by hand what a prompt asks for\n")
    )


def test_where_rules_know_what_a_classifier_does_not_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(sample.main, "sample", args=["--prompt=a red dog and a blue cat"], remedies=sample.REMEDIES)
    assert "no known relation" in (said := capsys.readouterr().err)
    assert "; rules guide red, blue: --classifier rules; --entities and --label" in said


@pytest.mark.parametrize("wrong", ["batch_size=0", "fps=-1", "scale=0"])
def test_numbers_below_what_they_can_be_are_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(sample.main, "sample", args=["--prompt=a red circle moving up", f"--{wrong}"])
    assert capsys.readouterr().err == f"error: {wrong.replace('=', ' ')}: give at least 1\n"
