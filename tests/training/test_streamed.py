"""Training on records that are streamed: the same on going on, and on several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback

from cvg.common.errors import UserError
from cvg.training.datamodule import CompositionDataModule
from cvg.training.module import CompositionModule
from tests.helpers.shards import make_shards
from tests.helpers.training import MIRROR, SMALL, fit, metrics_of

ROOT = Path(__file__).parents[2]
STREAMED: dict[str, Any] = {"cache_gb": 0, "shuffle_gb": 1e-3, "num_workers": 0, "mirror": MIRROR}


class Seen(Callback):
    """What batches held, and their losses; optionally leave after some step, as a killed run would."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.values: list[tuple[float, list[int]]] = []
        self.stop_at = stop_at

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append((float(outputs["loss"]), batch["seed"].tolist()))
        if trainer.global_step == self.stop_at:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "mid.ckpt")
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of many tars."""
    return make_shards(tmp_path_factory.mktemp("shards"), {"train": 160, "val": 40}, samples=8)


OPTIONS = {"noise": 0.3, "dropout": 0.1}


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A training of three epochs that is not stopped."""
    seen = Seen()
    fit(tmp_path_factory.mktemp("whole"), shards, OPTIONS, STREAMED, (seen,), epochs=3)
    return seen


@pytest.mark.parametrize("stop_at", [5, 7])
def test_going_on_changes_nothing(shards: Path, whole: Seen, tmp_path: Path, stop_at: int) -> None:
    """In the middle of an epoch, and at its end."""
    options, first, rest = OPTIONS, Seen(stop_at), Seen()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "cut", shards, options, STREAMED, (first,), epochs=3)
    mid = tmp_path / "cut/mid.ckpt"
    fit(tmp_path / "rest", shards, options, STREAMED, (rest,), epochs=3, ckpt_path=mid)
    assert len(whole.values) == 15 and len(first.values) == stop_at
    assert first.values + rest.values == whole.values
    for change, message in (
        ({"cache_gb": 4}, "its training had streamed True, this one has False"),
        ({"shuffle_gb": 2e-3}, "its training had shuffle_gb 0.001, this one has 0.002"),
    ):
        with pytest.raises(UserError, match=message):
            fit(tmp_path / "other", shards, options, STREAMED | change, epochs=3, ckpt_path=mid)


def test_readers_can_change_between_epochs_alone(shards: Path, tmp_path: Path) -> None:
    for stop_at in (5, 7):
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fit(tmp_path / str(stop_at), shards, {}, STREAMED, (Seen(stop_at),), epochs=3)
    two = STREAMED | {"num_workers": 2}
    seen = Seen()
    with pytest.raises(UserError, match=r"its training had readers \[1, 0\], this one has \[1, 2\]"):
        fit(tmp_path / "mid", shards, {}, two, (seen,), epochs=3, ckpt_path=tmp_path / "7/mid.ckpt")
    fit(tmp_path / "end", shards, {}, two, (seen,), epochs=3, ckpt_path=tmp_path / "5/mid.ckpt")
    assert len(seen.values) == 10


def test_what_is_streamed_is_learned_as_what_is_kept(shards: Path, tmp_path: Path) -> None:
    for name, data in (("streamed", STREAMED), ("kept", {"mirror": MIRROR})):
        fit(tmp_path / name, shards, {"lr": 0.01}, data, epochs=8)
    streamed, kept = (metrics_of(tmp_path / name) for name in ("streamed", "kept"))
    for side in ("positive", "negative"):
        assert streamed[f"val/accuracy_{side}"] > 0.85
        assert abs(streamed[f"val/accuracy_{side}"] - kept[f"val/accuracy_{side}"]) < 0.15


class Steps(Callback):
    """Write each process's steps into a file of its own."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        loss = float(trainer.callback_metrics["val/loss"])
        (Path(trainer.default_root_dir) / f"{trainer.global_rank}").write_text(f"{trainer.global_step} {loss}")


def test_two_processes_take_equal_steps(shards: Path, tmp_path: Path) -> None:
    """In bfloat16, with gradients of two batches a step: 5 batches an epoch are 3 steps."""
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        max_epochs=2,
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[Steps()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = CompositionDataModule([str(shards)], batch_size=32, eval_batch_size=32, **STREAMED)
    trainer.fit(CompositionModule(**SMALL), data)
    first, second = ((tmp_path / str(rank)).read_text() for rank in range(2))
    assert first == second and first.startswith("6 ")
