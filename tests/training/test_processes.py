"""Training by several processes as a user starts it: equal steps, an end of all where one is killed, and going on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.training import peers
from tests.helpers.shards import make_shards
from tests.helpers.training import command

ROOT = Path(__file__).parents[2]
RECORDS, BATCH = 320, 32
END_S = 60
"""In which all processes end after one was killed, on a machine that is busy; alone it takes ten."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards"), {"train": RECORDS, "val": 32}, samples=8)


def line(shards: Path, folder: Path, processes: int, *more: str) -> list[str]:
    """The command: streamed shards, tiny models, a checkpoint every step beside those of epochs."""
    options: dict[str, Any] = {
        "--config": ROOT / "lightning_configs/shapes_none.yaml",
        "--data.shards": json.dumps([str(shards)]),
        "--data.cache_gb": 0.005,
        "--data.batch_size": BATCH,
        "--data.eval_batch_size": BATCH,
        "--data.num_workers": 0,
        "--model.dim": 16,
        "--model.depth": 1,
        "--model.dropout": 0.1,
        "--model.noise": 0.3,
        "--trainer.accelerator": "cpu",
        "--trainer.devices": processes,
        "--trainer.strategy": "ddp",
        "--trainer.max_epochs": 2,
        "--trainer.enable_model_summary": "false",
        "--trainer.logger.init_args.save_dir": folder,
        "--trainer.callbacks+": "lightning.pytorch.callbacks.ModelCheckpoint",
        "--trainer.callbacks.every_n_train_steps": 1,
        "--trainer.callbacks.filename": "step",
    }
    options |= {"--trainer.callbacks.dirpath": folder / "steps"}
    words = [sys.executable, "-m", "cvg.train", "fit", *(f"{name}={value}" for name, value in options.items())]
    return [*words, "--trainer.callbacks+=tests.helpers.ranks.Tells", f"--trainer.callbacks.folder={folder}", *more]


def dies(rank: int, batch: int) -> list[str]:
    return [
        "--trainer.callbacks+=tests.helpers.ranks.Dies",
        f"--trainer.callbacks.{rank=}",
        f"--trainer.callbacks.{batch=}",
    ]


def trained(words: list[str], folder: Path) -> tuple[int, str]:
    """The exit code of a training, and all that its processes said; they have ended, or the test fails."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "said").open("wb") as said:
        first = subprocess.Popen(words, env=environment, stdout=said, stderr=said, start_new_session=True)
        try:
            code = first.wait(900)
            left = time.monotonic() + END_S
            while alive(first.pid):
                assert time.monotonic() < left, "some processes are still there"
                time.sleep(0.1)
        finally:
            if alive(first.pid):
                os.killpg(first.pid, 9)
    return code, (folder / "said").read_text()


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def told(folder: Path, processes: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]


def went_on_from(said: str) -> str:
    """The checkpoint that the one message of a training names, one of whose processes was killed."""
    assert "Traceback" not in said and said.count("error: ") == 1, said
    found = re.search(r"error: another process of the training ended early.*; go on with --ckpt_path (\S+)\n", said)
    assert found, said
    return found[1]


def check_same(folder: Path, other: Path) -> None:
    """The last checkpoints are equal in all that a training goes on with, but for the last digits.

    The first step after a start sums gradients in other buckets than later ones, and so in another order of processes.
    """
    paths = (max(each.glob("train/*/checkpoints/last.ckpt")) for each in (folder, other))
    one, two = (torch.load(path, weights_only=True) for path in paths)
    assert one["global_step"] == two["global_step"] and one["epoch"] == two["epoch"]
    for name in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow  # four processes that each import everything
def test_where_one_is_killed_all_end_with_one_message(many: Path, tmp_path: Path) -> None:
    code, said = trained(line(many, tmp_path, 2, "--data.num_workers=1", *dies(1, 12)), tmp_path)
    assert code == 2
    assert "are streamed: 2 readers" in said
    assert Path(went_on_from(said)).is_file()


def test_one_of_a_machine_is_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_PATIENCE", 0)
    gone, here = -1, os.getppid()
    for rank, parent, expected in (("0", here, True), ("1", here, False), ("1", gone, True), ("2", gone, False)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert peers.is_to_tell(parent) == expected
    assert peers.lost(RuntimeError("[/w/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"))
    assert peers.lost(RuntimeError("DataLoader worker (pid 19488) is killed by signal: Killed. "))
    assert peers.lost(torch.distributed.DistNetworkError("x")) and not peers.lost(RuntimeError("shapes differ"))


def test_what_several_cannot_share_is_told_before_they_are_begun(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--data.batch_size=31"], ["--data.eval_batch_size=31"]):
        with pytest.raises(SystemExit) as caught:
            command(line(many, tmp_path, 2, *more)[3:])
        assert caught.value.code == 2
        name = more[0].removeprefix("--").split("=")[0]
        assert f"error: {name} 31: cannot be shared by 2 processes; choose a multiple of 2\n" in capsys.readouterr().err


@pytest.mark.slow
def test_where_the_first_is_killed_another_tells(many: Path, tmp_path: Path) -> None:
    code, said = trained(line(many, tmp_path, 2, *dies(0, 2)), tmp_path)
    assert code == -9
    assert Path(went_on_from(said)).is_file()


@pytest.mark.slow
def test_eight_take_equal_steps_and_go_on_to_the_same_weights(many: Path, tmp_path: Path) -> None:
    """Two epochs in bfloat16 with gradients of two batches a step; killed in the middle of the second."""
    more = ["--trainer.precision=bf16-mixed", "--trainer.accumulate_grad_batches=2"]
    code, said = trained(line(many, tmp_path / "whole", 8, *more), tmp_path / "whole")
    assert code == 0, said
    assert f"{RECORDS} train records" in said and "are streamed: 8 readers" in said
    each = told(tmp_path / "whole", 8)
    batches = RECORDS // BATCH
    assert {one["steps"] for one in each} == {2 * (batches // 2)}
    seeds = [seed for one in each for batch in one["seeds"] for seed in batch]
    assert len(seeds) == len(set(seeds)) == 2 * RECORDS  # all samples of both epochs, none of them twice

    code, said = trained(line(many, tmp_path / "cut", 8, *more, *dies(5, batches + 5)), tmp_path / "cut")
    assert code == 2
    checkpoint = went_on_from(said)
    step = torch.load(checkpoint, weights_only=True)["global_step"]
    assert batches // 2 < step < batches
    again = line(many, tmp_path / "cut", 8, *more, f"--ckpt_path={checkpoint}")
    code, said = trained(again, tmp_path / "cut")
    assert code == 0, said
    check_same(tmp_path / "whole", tmp_path / "cut")
