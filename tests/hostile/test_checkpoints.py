"""Checkpoints that would run code, are none, or do not go with what is given: nothing runs, one message each."""

from __future__ import annotations

import functools
import http.server
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.classifier.checkpoint import load_checkpoint
from cvg.common.errors import UserError
from cvg.training.module import CompositionModule
from cvg.training.resuming import check_options
from tests.helpers.training import command

ROOT = Path(__file__).parents[2]
COMMANDS = ("fit", "validate", "test")


def arguments(subcommand: str, shards: Path, out: Path, *more: str) -> list[str]:
    options = {
        "data.shards": f"[{shards}]",
        "data.mirror": "null",
        "trainer.max_epochs": "2",
        "trainer.accelerator": "cpu",
        "trainer.logger.init_args.save_dir": str(out),
        "trainer.enable_progress_bar": "false",
        "model.backbone": "none",
        "model.dim": "16",
        "model.depth": "0",
    }
    return [subcommand, *(f"--{name}={value}" for name, value in options.items()), *more]


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training of one epoch, of two steps."""
    out = tmp_path_factory.mktemp("trained")
    return command([*arguments("fit", shards, out), "--trainer.max_epochs=1"])


@pytest.fixture
def asked(trained: Any, monkeypatch: pytest.MonkeyPatch) -> CompositionModule:
    """Its module, as one that is to be trained for two epochs in all."""
    monkeypatch.setattr(trained.trainer.fit_loop, "max_epochs", 2)
    module: CompositionModule = trained.model
    return module


@pytest.fixture(scope="module")
def checkpoint(trained: Any) -> Path:
    """Of the last of its steps."""
    return Path(trained.trainer.log_dir) / "checkpoints/last.ckpt"


class Payload:
    """What leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        command(args)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert "Traceback" not in error and "weights_only" not in error
    (line,) = re.findall("^error: .*$", error, re.MULTILINE)
    return str(line)


@pytest.fixture
def evil(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that is good but for one value."""
    stored = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "evil.ckpt"
    torch.save(stored | {"more": Payload(tmp_path / "ran")}, path)
    return path


@pytest.mark.parametrize("subcommand", COMMANDS)
def test_nothing_is_unpickled(
    subcommand: str, evil: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments(subcommand, shards, tmp_path, f"--ckpt_path={evil}"), capsys)
    assert str(evil) in message and "more than tensors and plain values" in message
    assert not (tmp_path / "ran").exists()


def test_nor_where_lightning_finds_the_file(
    evil: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    evil.rename(folder / "last.ckpt")
    callback = "lightning.pytorch.callbacks.ModelCheckpoint"
    more = [f"--trainer.callbacks={callback}", f"--trainer.callbacks.dirpath={folder}", "--ckpt_path=last"]
    assert "more than tensors" in refused(arguments("fit", shards, tmp_path, *more), capsys)
    assert not (tmp_path / "ran").exists()


def test_there_is_no_option_to_unpickle_all_the_same(
    evil: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"--ckpt_path={evil}", "--weights_only=false"]
    with pytest.raises(SystemExit):
        command(arguments("fit", shards, tmp_path, *more))
    assert "weights_only" in capsys.readouterr().err and not (tmp_path / "ran").exists()


@pytest.fixture
def server(evil: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(evil.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/{evil.name}"
        serving.shutdown()


def test_nothing_is_fetched(server: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(arguments("test", shards, tmp_path, f"--ckpt_path={server}"), capsys)
    assert server in message and "download it first" in message
    assert not (tmp_path / "ran").exists()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _junk(path: Path) -> None:
    path.write_bytes(os.urandom(1000))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _missing(path: Path) -> None:
    path.unlink()


def _list(path: Path) -> None:
    torch.save([1, 2], path)


def _no_weights(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"state_dict": {}}, path)


def _other_weights(path: Path) -> None:
    stored = torch.load(path, weights_only=True)
    stored["state_dict"]["classifier.absent_SKFHW"] = torch.zeros(3)
    torch.save(stored, path)


def _no_classifier(path: Path) -> None:
    stored = torch.load(path, weights_only=True)
    del stored["classifier"]
    torch.save(stored, path)


def _deep_classifier(path: Path) -> None:
    stored = torch.load(path, weights_only=True)
    stored["classifier"]["aggregator"]["depth"] = 100_000_000
    torch.save(stored, path)


@pytest.mark.parametrize(
    "change",
    [
        _empty,
        _junk,
        _cut,
        _fifo,
        _folder,
        _missing,
        _list,
        _no_weights,
        _other_weights,
        _no_classifier,
        _deep_classifier,
    ],
)
def test_damaged_checkpoints_are_not_exported(change: Callable[[Path], None], checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(checkpoint.read_bytes())
    change(path)
    with pytest.raises(UserError, match="checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("change", [_fifo, _other_weights])
def test_damaged_checkpoints_are_not_tested(
    change: Callable[[Path], None], checkpoint: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(checkpoint.read_bytes())
    change(path)
    assert "checkpoint" in refused(arguments("test", shards, tmp_path, f"--ckpt_path={path}"), capsys)


def test_a_resumed_training_refuses_another_learning_rate(
    checkpoint: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments("fit", shards, tmp_path, f"--ckpt_path={checkpoint}", "--model.lr=5e-4")
    assert "its training had model.lr 0.001, this one has 0.0005" in refused(args, capsys)


@pytest.mark.parametrize("name", ["dim", "weight_decay", "warmup", "positive_only", "group_softmax", "warm_start"])
def test_a_resumed_training_refuses_any_other_option(name: str, checkpoint: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    options = dict(stored["hyper_parameters"])
    check_options(stored, options)
    check_options(stored | {"hyper_parameters": options | {"warm_start": "folder"}}, options)  # of use to it only
    with pytest.raises(UserError, match=f"model.{name} .*, this one has 'another'"):
        check_options(stored, options | {name: "another"})


def test_a_test_takes_what_is_given(checkpoint: Path, shards: Path, tmp_path: Path) -> None:
    tested: Any = command(arguments("test", shards, tmp_path, f"--ckpt_path={checkpoint}", "--model.lr=1")).model
    assert tested.hparams["lr"] == 1


def test_a_test_refuses_another_classifier(
    checkpoint: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments("test", shards, tmp_path, f"--ckpt_path={checkpoint}", "--model.dim=32")
    assert "its classifier has aggregator" in refused(args, capsys)


# What is left to train, and the state it is gone on from


@pytest.mark.parametrize(("name", "most", "done"), [("epochs", 1, 1), ("steps", 2, 2), ("steps", 1, 2)])
def test_a_training_that_is_done_is_not_resumed(
    name: str, most: int, done: int, asked: CompositionModule, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asked.trainer.fit_loop if name == "epochs" else asked.trainer.fit_loop.epoch_loop
    monkeypatch.setattr(loop, f"max_{name}", most)
    reason = f"trainer.max_{name} {most}: the checkpoint's training has done {done} {name} already"
    with pytest.raises(UserError, match=reason):
        asked.on_load_checkpoint(torch.load(checkpoint, weights_only=True))


def test_nor_on_the_command_line(
    checkpoint: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments("fit", shards, tmp_path, f"--ckpt_path={checkpoint}", "--trainer.max_steps=2")
    assert "trainer.max_steps 2: the checkpoint's training has done 2 steps already" in refused(args, capsys)


@pytest.mark.parametrize("name", ["max_epochs", "max_steps"])
def test_a_training_of_nothing_is_not_begun(
    name: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments("fit", shards, tmp_path, f"--trainer.{name}=0"), capsys)
    assert f"trainer.{name} 0: there is nothing to train" in message


def test_a_training_that_is_not_done_goes_on(checkpoint: Path, shards: Path, tmp_path: Path) -> None:
    trained: Any = command(arguments("fit", shards, tmp_path, f"--ckpt_path={checkpoint}")).trainer
    assert trained.current_epoch == 2 and trained.global_step == 4


def _no_optimizer(stored: dict[str, Any]) -> None:
    stored["optimizer_states"] = []


def _optimizer_of_text(stored: dict[str, Any]) -> None:
    stored["optimizer_states"] = ["text"]


def _fewer_groups(stored: dict[str, Any]) -> None:
    stored["optimizer_states"][0]["param_groups"].pop()


def _moment_of_another_shape(stored: dict[str, Any]) -> None:
    next(iter(stored["optimizer_states"][0]["state"].values()))["exp_avg"] = torch.zeros(3)


def _infinite_moment(stored: dict[str, Any]) -> None:
    next(iter(stored["optimizer_states"][0]["state"].values()))["exp_avg_sq"].fill_(float("inf"))


def _nan_step(stored: dict[str, Any]) -> None:
    next(iter(stored["optimizer_states"][0]["state"].values()))["step"].fill_(float("nan"))


def _no_loops(stored: dict[str, Any]) -> None:
    del stored["loops"]


def _loops_of_text(stored: dict[str, Any]) -> None:
    stored["loops"] = "text"


def _no_epochs(stored: dict[str, Any]) -> None:
    del stored["loops"]["fit_loop"]["epoch_progress"]


def _epochs_of_text(stored: dict[str, Any]) -> None:
    stored["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] = "one"


def _negative_batch(stored: dict[str, Any]) -> None:
    stored["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] = -1


def _steps_of_text(stored: dict[str, Any]) -> None:
    stored["global_step"] = "text"


def _no_schedule(stored: dict[str, Any]) -> None:
    stored["lr_schedulers"] = [[]]


def _callbacks_of_text(stored: dict[str, Any]) -> None:
    stored["callbacks"] = "text"


def _nan_weights(stored: dict[str, Any]) -> None:
    stored["state_dict"]["classifier.absent_SKFHW"].fill_(float("nan"))


STATES = {
    "optimiser": [
        _no_optimizer,
        _optimizer_of_text,
        _fewer_groups,
        _moment_of_another_shape,
        _infinite_moment,
        _nan_step,
    ],
    "how far its training is": [
        _no_loops,
        _loops_of_text,
        _no_epochs,
        _epochs_of_text,
        _negative_batch,
        _steps_of_text,
    ],
    "what it holds of its training": [_no_schedule, _callbacks_of_text],
    "weights are not finite": [_nan_weights],
}


ALL_STATES = [(reason, change) for reason, changes in STATES.items() for change in changes]
LIGHTNINGS = [(reason, change) for reason, change in ALL_STATES if reason == "what it holds of its training"]
"""Those that Lightning itself comes upon."""
ON_THE_COMMAND_LINE = [(reason, STATES[reason][0]) for reason in STATES if reason != LIGHTNINGS[0][0]] + LIGHTNINGS


@pytest.mark.parametrize(("reason", "change"), [state for state in ALL_STATES if state not in LIGHTNINGS])
def test_damaged_states_of_a_training(
    reason: str, change: Callable[[dict[str, Any]], None], checkpoint: Path, asked: CompositionModule
) -> None:
    asked.on_load_checkpoint(torch.load(checkpoint, weights_only=True))
    stored = torch.load(checkpoint, weights_only=True)
    change(stored)
    with pytest.raises(UserError, match=reason):
        asked.on_load_checkpoint(stored)


@pytest.mark.parametrize(("reason", "change"), ON_THE_COMMAND_LINE)
def test_a_damaged_state_is_one_line(
    reason: str,
    change: Callable[[dict[str, Any]], None],
    checkpoint: Path,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    change(stored)
    path = tmp_path / "damaged.ckpt"
    torch.save(stored, path)
    assert reason in refused(arguments("fit", shards, tmp_path, f"--ckpt_path={path}"), capsys)


def test_weights_that_are_not_finite_are_not_exported(checkpoint: Path, tmp_path: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    _nan_weights(stored)
    torch.save(stored, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match="its weights are not finite .absent_SKFHW."):
        load_checkpoint(tmp_path / "nan.ckpt")


@pytest.mark.parametrize(
    ("subcommand", "name", "place"),
    [
        *((subcommand, "trainer.logger.init_args.save_dir", "FILE/logs") for subcommand in COMMANDS),
        ("fit", "trainer.logger.init_args.save_dir", "/proc/nope"),
        ("fit", "export", "FILE/logs"),
    ],
)
def test_places_are_tried_before_training_begins(
    subcommand: str,
    name: str,
    place: str,
    checkpoint: Path,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    place = place.replace("FILE", str(tmp_path / "file"))
    more = [] if subcommand == "fit" else [f"--ckpt_path={checkpoint}"]
    message = refused(arguments(subcommand, shards, tmp_path, f"--{name}={place}", *more), capsys)
    assert place in message and "cannot be written" in message
