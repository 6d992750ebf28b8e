"""Trainings of a small classifier, and the batches of shards."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from cvg.train import CompositionCLI, main
from cvg.training.datamodule import CompositionDataModule
from cvg.training.module import CompositionModule

MIRROR = ["horizontal", "vertical"]
ALL_MIRRORS = [*MIRROR, "diagonal", "time"]
PICTURE = "cvg.training.module.plot_confusion"
SMALL: dict[str, Any] = {"dim": 16, "depth": 1, "attention_heads": 2}


def fit(
    folder: Path,
    shards: Path | list[str],
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    callbacks: tuple[Callback, ...] = (),
    epochs: int = 2,
    ckpt_path: Path | None = None,
    picture: bool = False,
) -> L.Trainer:
    """Train on the CPU. The picture of confusions at the end, which takes longer than the training, only if asked."""
    L.seed_everything(0, verbose=False)
    module = CompositionModule(**(SMALL | (model or {})))
    places = shards if isinstance(shards, list) else [str(shards)]
    datamodule = CompositionDataModule(places, **({"batch_size": 32} | (data or {})))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=CSVLogger(folder, name="log", version=0),
        callbacks=[*callbacks, ModelCheckpoint(folder, save_last=True)],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    with pytest.MonkeyPatch.context() as patch:
        if not picture:
            patch.setattr(PICTURE, lambda *_: None)
        trainer.fit(module, datamodule, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def command(args: list[str], picture: bool = True) -> CompositionCLI:
    """``cvg.train.main`` with the parser of the asked subcommand alone: those of all take twice as long to make.

    Without ``picture`` that of the confusions is not drawn.
    """
    known = CompositionCLI.subcommands()
    asked = {name: skip for name, skip in known.items() if name in args[:1]} or known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompositionCLI, "subcommands", staticmethod(lambda: asked))
        patch.setattr(sys, "argv", ["cvg"])  # else Lightning warns of two lists of arguments
        if not picture:
            patch.setattr(PICTURE, lambda *_: None)
        return main(args)


def metrics_of(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "log/version_0/metrics.json").read_text())
    return found


def batches_of(data: CompositionDataModule, rank: int = 0, ranks: int = 1, epoch: int = 0, start: int = 0) -> list[Any]:
    loader = data.train_dataloader()
    stream = loader.stream
    stream.rank, stream.ranks, stream.epoch, stream.start = rank, ranks, epoch, start
    return list(loader)
