"""Records that do not fit into memory: who reads what, how often, in which order, and from where on."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.common.errors import UserError
from cvg.shards import folders
from cvg.shards.records import most_maps
from cvg.shards.shards import ShardInfo
from cvg.shards.streaming import Streamed
from cvg.training.datamodule import CompositionDataModule
from tests.helpers.shards import make_shards

COUNT, SAMPLES = 640, 3


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 214 tars, whose borders are not those of ranks."""
    return make_shards(tmp_path_factory.mktemp("many"), {"train": COUNT, "val": 40}, samples=SAMPLES)


def streamed(folder: Path | str, **options: Any) -> CompositionDataModule:
    """A data module that keeps nothing in memory, with buffers of about ten records."""
    size = most_maps(ShardInfo.load(folder).shape) * 10 / 1e9 if isinstance(folder, Path) else 1.0
    return CompositionDataModule([str(folder)], **({"cache_gb": 0, "shuffle_gb": size, "num_workers": 0} | options))


def epoch(data: CompositionDataModule, rank: int = 0, ranks: int = 1, split: str = "train", **where: int) -> list[Any]:
    loader = data.train_dataloader() if split == "train" else data.val_dataloader()
    assert isinstance(loader.stream, Streamed)
    loader.stream.rank, loader.stream.ranks = rank, ranks
    for name, value in where.items():
        setattr(loader.stream, name, value)
    return list(loader)


def shown(batches: list[Any]) -> list[float]:
    """What tells records apart, of those that count."""
    return [float(x.float().sum()) for batch in batches for x in batch["positive"][batch["valid"]]]


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 0), (8, 0), (4, 2)])
def test_all_ranks_have_equal_epochs_that_show_each_record_once(many: Path, ranks: int, workers: int) -> None:
    data = streamed(many, batch_size=32, num_workers=workers, shuffle_gb=1e-3)
    parts = [epoch(data, rank, ranks) for rank in range(ranks)]
    assert {len(part) for part in parts} == {COUNT // 32}
    assert {len(batch["label"]) for part in parts for batch in part} == {32 // ranks}
    found = [value for part in parts for value in shown(part)]
    assert len(found) == len(set(found)) == COUNT
    assert len({seed for part in parts for batch in part for seed in batch["seed"].tolist()}) == COUNT
    assert shown(epoch(data, 0, ranks, epoch=1)) != shown(parts[0])  # other records, in another order
    if ranks > 1:
        assert set(shown(epoch(data, 0, ranks, epoch=1))) != set(shown(parts[0]))


def test_fewer_tars_than_readers_are_shared(tmp_path: Path) -> None:
    folder = make_shards(tmp_path, {"train": 70, "val": 13}, samples=25)
    data = streamed(folder, batch_size=16, eval_batch_size=16)
    found = [value for rank in range(8) for value in shown(epoch(data, rank, 8))]
    assert len(found) == len(set(found)) == 64  # 70, in whole batches
    parts = [epoch(data, rank, 8, "val") for rank in range(8)]
    assert {len(part) for part in parts} == {1} and len({value for part in parts for value in shown(part)}) == 13
    tiny = streamed(make_shards(tmp_path / "tiny", {"train": 3}), batch_size=8)
    assert [len(batch["label"]) for rank in range(4) for batch in epoch(tiny, rank, 4)] == [2] * 4


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (3, 2)])
def test_validation_counts_each_record_once_in_equal_batches(many: Path, ranks: int, workers: int) -> None:
    data = streamed(many, eval_batch_size=18, num_workers=workers)
    parts = [epoch(data, rank, ranks, "val") for rank in range(ranks)]
    assert {len(part) for part in parts} == {3}
    assert {len(batch["label"]) for part in parts for batch in part} == {18 // ranks}
    found = [value for part in parts for value in shown(part)]
    assert len(found) == len(set(found)) == 40
    assert {len(shown(part)) for part in parts} <= {40 // ranks, -(-40 // ranks)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("hold_out", [None, ["up", "left of"]])
def test_a_start_in_mid_epoch_gives_what_an_unbroken_epoch_gives(
    many: Path, workers: int, hold_out: list[str] | None
) -> None:
    data = streamed(many, batch_size=32, num_workers=workers, mirror=["time"], hold_out=hold_out, shuffle_gb=1e-3)
    whole = epoch(data, 1, 2)
    for start in (1, 4, len(whole) - 1, len(whole)):
        rest = epoch(data, 1, 2, start=start)
        assert len(rest) == len(whole) - start
        assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_held_out_labels_are_not_seen(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "a", {"train": 64}, samples=8)
    labels = ShardInfo.load(folder).label_set
    data = streamed(folder, batch_size=16, hold_out=["up", "left of"])
    parts = [epoch(data, rank, 4) for rank in range(4)]
    assert {len(part) for part in parts} == {3}
    seen = {int(label) for part in parts for batch in part for label in batch["label"]}
    assert seen and not seen & {labels.index("up"), labels.index("left of")}


class Counted(io.FileIO):
    """A file that counts what is read of it."""

    read_bytes = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        Counted.read_bytes += count
        return count

    def readall(self) -> bytes:
        raise AssertionError("a tar as a whole in memory")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.read_bytes = 0
    monkeypatch.setattr(folders, "opened", lambda path: io.BufferedReader(Counted(str(path))))
    return Counted


def test_eight_ranks_read_the_tars_once(many: Path, counted: type[Counted]) -> None:
    """Within 5 %, which are the tars that lie across the border of two ranks."""
    stored = sum(path.stat().st_size for path in many.glob("train-*.tar"))
    data = streamed(many, batch_size=32)
    for rank in range(8):
        epoch(data, rank, 8)
    assert 1 <= counted.read_bytes / stored <= 1.05


def test_going_on_reads_little_of_what_was_read(many: Path, counted: type[Counted]) -> None:
    data = streamed(many, batch_size=32)
    epoch(data)
    whole, Counted.read_bytes = counted.read_bytes, 0
    epoch(data, start=16)
    assert counted.read_bytes < 0.35 * whole  # a fifth of the batches, and what the buffer held


def test_the_buffer_is_bounded_in_bytes(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    read = Streamed._read

    def watched(self: Streamed, *args: Any) -> Any:
        for number, found in enumerate(read(self, *args), start=1):
            held.append(number)
            yield found

    monkeypatch.setattr(Streamed, "_read", watched)
    size = most_maps(ShardInfo.load(many).shape)
    data = streamed(many, batch_size=1, shuffle_gb=7.5 * size / 1e9)
    loader = data.train_dataloader()
    assert isinstance(loader.stream, Streamed) and loader.stream.buffer == 7
    for given, _ in enumerate(loader):
        assert held[-1] - given <= 8 + 1  # and the one that is given out
    with pytest.raises(UserError, match=r"a record has \d+ bytes, more than a shuffle buffer"):
        streamed(many, shuffle_gb=0.5 * size / 1e9).train_dataloader()


def test_neighbours_in_tars_are_parted(many: Path) -> None:
    """And the order of validation is that of the tars."""
    data = streamed(many, batch_size=32, shuffle_gb=1e-2)
    assert shown(epoch(data, split="val")) == shown(epoch(data, split="val", epoch=3))
    places = {value: place for place, value in enumerate(shown(epoch(data)))}
    again = [places[value] for value in shown(epoch(data, epoch=1))]
    assert sum(abs(first - second) == 1 for first, second in itertools.pairwise(again)) < COUNT // 20


def test_tars_whose_records_are_not_counted_are_counted(many: Path, tmp_path: Path) -> None:
    data = streamed(many, batch_size=32)
    found = json.loads((many / "shards.json").read_text())
    assert found.pop("records")
    for path in many.glob("*.tar"):
        shutil.copy(path, tmp_path)
    (tmp_path / "shards.json").write_text(json.dumps(found))
    other = streamed(tmp_path, batch_size=32)
    assert all(same(a, b) for a, b in zip(epoch(data), epoch(other), strict=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_tar_that_was_changed_ends_the_epoch(tmp_path: Path, rank: int) -> None:
    """On the rank that reads it to its end, before the last batch of the epoch."""
    folder = make_shards(tmp_path, {"train": 64}, samples=8)
    data = streamed(folder, batch_size=16)
    for path in folder.glob("train-*.tar"):
        changed = bytearray(path.read_bytes())
        at = changed.rindex(b'"prompt_positive": "a red')
        changed[at + 24 : at + 29] = b"a rad"
        path.write_bytes(changed)
    with pytest.raises(UserError, match="not the tar that shards.json names"):
        epoch(data, rank, 2)


def test_counts_that_contradict_each_other_are_refused(many: Path, tmp_path: Path) -> None:
    found = json.loads((many / "shards.json").read_text())
    for change, message in (
        ({"records": {}}, "name other files"),
        ({"records": found["records"] | {"train-00000.tar": SAMPLES + 1}}, "hold 641 records by `records`, 640 by"),
    ):
        (tmp_path / "shards.json").write_text(json.dumps(found | change))
        with pytest.raises(UserError, match=message):
            ShardInfo.load(tmp_path)


def test_which_way_is_taken_is_told(many: Path) -> None:
    size = most_maps(ShardInfo.load(many).shape) * COUNT / 1e9
    there = CompositionDataModule([str(many)], cache_gb=size)
    assert there.fits("train") and there.reading("train").startswith("640 train records, 0.0131 GB, are kept in memory")
    away = CompositionDataModule([str(many)], cache_gb=0.99 * size)
    assert not away.fits("train") and away.fits("val")
    assert re.fullmatch(
        r"640 train records, 0.0131 GB, do not fit into data.cache_gb [\d.]+ and are streamed: 2 readers, each its own "
        "part, shuffled by 1 GB a process",
        away.reading("train"),
    )
    for options in ({"cache_gb": -1.0}, {"shuffle_gb": float("nan")}, {"disk_gb": -1.0}, {"num_workers": -1}):
        with pytest.raises(UserError, match="must be at least 0"):
            CompositionDataModule([str(many)], **options)  # type: ignore[arg-type]
