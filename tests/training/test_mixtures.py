"""Records of several folders in one training, by weight: how much an epoch has of each, in memory and streamed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.common.errors import UserError
from cvg.shards import mixing
from cvg.shards.stream import Shared
from cvg.shards.streaming import Streamed
from cvg.training.datamodule import CompositionDataModule
from tests.helpers.shards import make_shards
from tests.helpers.training import batches_of, command, fit
from tests.training.test_streamed import Seen

REAL, MADE = 96, 32
WAYS: dict[str, dict[str, Any]] = {
    "in memory": {},
    "streamed": {"cache_gb": 0, "shuffle_gb": 1e-3, "num_workers": 0},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One of 96 records of real videos and one of 32 of a generator's."""
    folder = tmp_path_factory.mktemp("mixed")
    real = make_shards(folder / "real", {"train": REAL, "val": 8}, samples=8)
    made = make_shards(folder / "made", {"train": MADE, "val": 8}, samples=8, seed=7, changes={"source": "generator"})
    return [str(real), str(made)]


def shown(batches: list[Any]) -> list[float]:
    """What tells records apart."""
    return [float(x.float().sum()) for batch in batches for x in batch["positive"]]


@pytest.fixture(scope="module")
def real(folders: list[str]) -> set[float]:
    """What tells the first folder's records."""
    return set(shown(batches_of(CompositionDataModule(folders[:1], batch_size=REAL))))


MIXTURES: dict[str, tuple[dict[str, Any], int, float]] = {
    "weights": ({"weights": [0.5, 3.0]}, 144, 48 / 144),
    "whole weights": ({"weights": [1, 2]}, 160, 96 / 160),
    "shares": ({"shares": [0.3, 0.7]}, 128, 0.3),
    "shares of one less than all": ({"shares": [9, 1]}, 128, 0.9),
    "shares of what is seen": ({"shares": [1, 1], "hold_out": ["up"]}, 112, 0.5),
}
"""Options, samples of an epoch, and the part of them that is real."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MIXTURES)
def test_an_epoch_has_of_each_folder_what_was_asked(name: str, way: str, folders: list[str], real: set[float]) -> None:
    options, size, part = MIXTURES[name]
    data = CompositionDataModule(folders, batch_size=8, **options, **WAYS[way])
    loader = data.train_dataloader()
    stream = loader.stream
    assert isinstance(stream, Streamed if way == "streamed" else Shared)
    count, total, times = 0, 0, Counter[float]()
    for stream.epoch in range(4):
        parts = []
        for stream.rank, stream.ranks in ((0, 2), (1, 2)):
            parts.append(list(loader))
        assert {len(batches) for batches in parts} == {size // 8}, "ranks have unequal epochs"
        assert {len(batch["label"]) for batches in parts for batch in batches} == {4}
        found = [value for batches in parts for value in shown(batches)]
        count, total = count + sum(value in real for value in found), total + len(found)
        times.update(found)
    assert total == 4 * size
    # Whole copies are always there, so that this bound, of samples drawn one by one, is a wide one.
    assert abs(count / total - part) < 3 * math.sqrt(part * (1 - part) / total)
    if options.get("weights") == [1, 2]:
        assert {value in real: number for value, number in times.items()} == {True: 4, False: 8}


@pytest.mark.parametrize("way", WAYS)
def test_a_start_in_mid_epoch_gives_what_an_unbroken_epoch_gives(way: str, folders: list[str]) -> None:
    for options in ({"weights": [0.5, 3.0]}, {"shares": [0.3, 0.7]}):
        data = CompositionDataModule(folders, batch_size=8, mirror=["time"], **options, **WAYS[way])
        whole = batches_of(data, 1, 2, epoch=3)
        for start in (7, len(whole) - 1):
            again = CompositionDataModule(folders, batch_size=8, mirror=["time"], **options, **WAYS[way])
            rest = batches_of(again, 1, 2, epoch=3, start=start)
            assert len(rest) == len(whole) - start
            pairs = zip(whole[start:], rest, strict=True)
            assert all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_goes_on_in_mid_epoch(way: str, folders: list[str], tmp_path: Path) -> None:
    """To the same losses, with what it was begun with alone."""
    data = {"shares": [0.3, 0.7], **WAYS[way]}
    whole, first, rest = Seen(), Seen(6), Seen()
    fit(tmp_path / "whole", folders, {"dropout": 0.1}, data, (whole,))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "cut", folders, {"dropout": 0.1}, data, (first,))
    mid = tmp_path / "cut/mid.ckpt"
    fit(tmp_path / "rest", folders, {"dropout": 0.1}, data, (rest,), ckpt_path=mid)
    assert len(whole.values) == 8 and first.values + rest.values == whole.values
    with pytest.raises(UserError, match=r"its training had shares \[0.3, 0.7\], this one has \[0.4, 0.6\]"):
        fit(tmp_path / "other", folders, {}, data | {"shares": [0.4, 0.6]}, ckpt_path=mid)


def test_what_an_epoch_consists_of_is_told(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, as its user types it; validation shows each record of both once."""
    config = tmp_path / "mixed.yaml"
    config.write_text(f"data:\n  shards: [{folders[0]}, {folders[1]}]\n  shares: [0.7, 0.3]\n  batch_size: 32\n")
    small = ["--model.dim=16", "--model.depth=1", "--model.attention_heads=2", "--trainer.max_epochs=1"]
    place = [f"--trainer.logger.init_args.save_dir={tmp_path}", "--trainer.accelerator=cpu"]
    cli = command(["fit", f"--config={config}", *small, *place])
    assert cli.trainer.global_step == 4
    said = capsys.readouterr().out
    assert "an epoch has 128 training samples: 70.0% of" in said
    assert f"30.0% of {folders[1]} (32 records, each 1.2 times)" in said
    val = cli.datamodule.val_dataloader()
    assert sum(int(batch["valid"].sum()) for batch in val) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0]}, "data.weights [1.0]: expected one positive number"),
        ({"weights": [1.0, 0.0]}, "data.weights [1.0, 0.0]: expected one positive number"),
        ({"weights": [1.0, -2.0]}, "data.weights"),
        ({"weights": [1.0, math.nan]}, "data.weights"),
        ({"weights": [1.0, math.inf]}, "data.weights"),
        ({"weights": [1.0, 1e9]}, "of 1000 at most"),
        ({"shares": [1.0, 0.0]}, "data.shares [1.0, 0.0]: expected one positive number"),
        ({"shares": []}, "data.shares []"),
        ({"shares": [0.5, 0.5], "weights": [1.0, 1.0]}, "give one of the two"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any], message: str, folders: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        CompositionDataModule(folders, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_folders_that_cannot_have_their_share_are_refused(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = str(make_shards(tmp_path / "none", {"val": 8}))
    data = CompositionDataModule([folders[0], none], shares=[0.5, 0.5])
    assert len(list(data.val_dataloader())) == 1
    with pytest.raises(UserError, match="0 training records cannot be 48 samples of an epoch, its share of 0.5"):
        data.train_dataloader()
    monkeypatch.setattr(mixing, "MOST", 50.0)
    one = str(make_shards(tmp_path / "one", {"train": 1}))
    with pytest.raises(UserError, match="1 training records cannot be 65 samples of an epoch, its share of 0.667"):
        CompositionDataModule([folders[0], one], shares=[1, 2]).train_dataloader()
    changes = {"generator": {"name": "tiny", "class": "Tiny", "fingerprint": "1"}}
    other = str(make_shards(tmp_path / "other", {"train": 8}, changes=changes))
    with pytest.raises(UserError, match="differ in `generator`"):
        CompositionDataModule([folders[0], other], shares=[0.5, 0.5]).train_dataloader()
