"""What processes keep of the rows they did, who does which, and the tars that are made of it: without a generator."""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cvg.common.errors import UserError
from cvg.common.files import alone
from cvg.shards.records import encode
from cvg.shards.shards import SPLITS, ShardWriter
from data_prep.inversion import outcomes as outcomes_module
from data_prep.inversion import packing
from data_prep.inversion.outcomes import LINES, RECORDS, Journal, Outcome, Outcomes
from data_prep.inversion.packing import Packer
from data_prep.inversion.signatures import changed, signature
from data_prep.inversion.stores import Here
from data_prep.inversion.taking import Taking, joined
from data_prep.manifest import Row
from tests.helpers.shards import make_record

COUNT = 60
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tars of a few records, and parts of few bytes."""
    monkeypatch.setattr(packing, "SAMPLES", 7)
    monkeypatch.setattr(outcomes_module, "MOST_BYTES", 20_000)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return made_in(tmp_path)


def made_in(folder: Path) -> list[Row]:
    """Every third of two relations, every fifth of validation."""
    made = []
    for number in range(COUNT):
        video = folder / f"{number}.mp4"
        video.write_bytes(bytes([number]) * 100)
        relations = (("left", (0,)),) * (1 + (number % 3 == 0))
        made.append(Row(f"v{number}", video, "", (), relations, split="val" if number % 5 == 0 else "train"))
    return made


def outcome(rows: list[Row], number: int) -> Outcome:
    """Row 4 and every eleventh are left out."""
    seen = signature(rows[number])
    if number == 4 or number % 11 == 0:
        told = {"id": rows[number].id, "line": 0, "video": "", "rejected": "replay", "detail": "x"}
        return Outcome(number, rows[number].split, seen, rejected=told)
    return Outcome(number, rows[number].split, seen, [encoded(key, number) for key in rows[number].keys])


@functools.cache
def encoded(key: str, number: int) -> Any:
    return encode(make_record(key, "left", number))


def whole(rows: list[Row], out: Path) -> dict[str, bytes]:
    """The tars as one loop over the rows writes them."""
    for split in SPLITS:
        with ShardWriter(out, split, samples=7) as writer:
            for number, row in enumerate(rows):
                if row.split == split and outcome(rows, number).rejected is None:
                    for key in row.keys:
                        writer.write(make_record(key, "left", number))
    return tars(out)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tars of the rows, wherever their videos lie."""
    folder = tmp_path_factory.mktemp("whole")
    return whole(made_in(folder), folder / "out")


def tars(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.tar")}


def begun(rows: list[Row], out: Path) -> tuple[Packer, Taking]:
    """As a process begins that is alone."""
    (out / "parts").mkdir(parents=True, exist_ok=True)
    done = Packer(rows, Here(out), out / "parts").mend()
    (out / "parts" / "taken").write_bytes(done)
    return Packer(rows, Here(out), out / "parts"), Taking(out / "parts" / "taken", len(rows))


def do(rows: list[Row], taking: Taking, journal: Journal) -> bool:
    """Do one row, if there is one."""
    if (taken := taking.take()) is None:
        return False
    journal.add([outcome(rows, number) for number in taken])
    taking.done(taken)
    return True


def finished(rows: list[Row], out: Path) -> int:
    """Go on, to the end. Returns how many rows were done."""
    packer, taking = begun(rows, out)
    count = 0
    with Journal(out / "parts") as journal:
        while True:
            while do(rows, taking, journal):
                count += 1
            if packer.finish(taking):
                break
    taking.close()
    assert packer.written().keys() == tars(out).keys()
    return count


def test_tars_are_those_of_one_loop_whatever_the_order(
    rows: list[Row], expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    packer, taking = begun(rows, out)
    order, seen = list(range(COUNT)), set[int]()
    random.Random(0).shuffle(order)
    journals = [Journal(out / "parts") for _ in range(3)]
    for place, number in enumerate(order):
        journals[place % 3].add([outcome(rows, number)])
        taking.done(range(number, number + 1))
        packer.advance(taking)
        seen.add(len(packer.written()))
        assert all(expected[name] == data for name, data in tars(out).items())
    assert max(seen) > 3  # before the last row is done
    assert packer.finish(taking) and tars(out) == expected
    assert set(packer.outcomes.rejects) == {4, *range(0, COUNT, 11)}
    counts = {split: counts.get("left", 0) for split, counts in packer.counts().items()}
    assert counts == {
        split: sum(len(outcome(rows, n).members) for n, row in enumerate(rows) if row.split == split)
        for split in SPLITS
    }


def test_parts_are_let_go_of_as_tars_are_written(rows: list[Row], tmp_path: Path) -> None:
    out = tmp_path / "out"
    packer, taking = begun(rows, out)
    most = 0
    with Journal(out / "parts") as journal:
        while do(rows, taking, journal):
            packer.advance(taking)
            most = max(most, len(list((out / "parts").glob(f"*{RECORDS}"))))
        assert sum(journal._numbers.values()) > 25 and most <= 16
        assert len(list((out / "parts").glob(f"*{LINES}"))) == 1


def test_a_run_that_was_stopped_goes_on(rows: list[Row], expected: dict[str, bytes], tmp_path: Path) -> None:
    for stop in (1, 9, 30, 59):
        out = tmp_path / str(stop)
        packer, taking = begun(rows, out)
        with Journal(out / "parts") as journal:
            for _ in range(stop):
                do(rows, taking, journal)
                packer.advance(taking)
        taking.close()
        (lines,) = (out / "parts").glob(f"*{LINES}")
        with lines.open("ab") as file:
            file.write(b'{"row": 59, "seen": "')  # it was being written
        assert finished(rows, out) == COUNT - stop
        assert tars(out) == expected


Damage = Callable[[Path, list[Row]], Any]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _records(out: Path) -> Path:
    return max((out / "parts").glob(f"*{RECORDS}"), key=lambda path: path.stat().st_size)


DAMAGE: dict[str, Damage] = {
    "no parts": lambda out, rows: [path.unlink() for path in (out / "parts").iterdir()],
    "no records": lambda out, rows: _records(out).unlink(),
    "short records": lambda out, rows: _cut(_records(out)),
    "other records": lambda out, rows: _flip(_records(out)),
    "no lines": lambda out, rows: next((out / "parts").glob(f"*{LINES}")).unlink(),
    "bad lines": lambda out, rows: _flip(next((out / "parts").glob(f"*{LINES}"))),
    "no notes": lambda out, rows: (out / "parts" / "tars.json").unlink(),
    "bad notes": lambda out, rows: (out / "parts" / "tars.json").write_text('{"train": [{}]}'),
    "no tar": lambda out, rows: (out / "train-00001.tar").unlink(),
    "short tar": lambda out, rows: _cut(out / "train-00001.tar"),
    "another tar": lambda out, rows: (out / "train-00077.tar").write_bytes(b""),
    "another video": lambda out, rows: rows[2].video.write_bytes(b"x"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_made_again_and_the_rest_is_not(
    name: str, rows: list[Row], expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    packer, taking = begun(rows, out)
    with Journal(out / "parts") as journal:
        for _ in range(45):
            do(rows, taking, journal)
            packer.advance(taking)
    taking.close()
    assert "train-00003.tar" in packer.written()
    DAMAGE[name](out, rows)
    again = finished(rows, out)
    assert tars(out) == expected
    if name in ("no tar", "short tar"):
        assert again <= COUNT - 45 + 9  # those of one tar, and one that lies in two
    elif name == "another video":
        assert again == COUNT - 45 + 1


def test_a_copy_is_no_change(rows: list[Row]) -> None:
    row = rows[0]
    seen = signature(row)
    os.utime(row.video, (1, 1))
    assert not changed(row, seen)
    row.video.write_bytes(b"y" * 100)
    assert changed(row, seen)
    seen = signature(row)
    row.video.unlink()
    assert changed(row, seen) and not changed(row, signature(row))


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    path = tmp_path / "taken"
    path.write_bytes(bytes(10))
    return path


@pytest.fixture
def other(taken: Path) -> Iterator[Callable[[int], Any]]:
    """Begins a process that takes so many groups of two and keeps them."""
    processes = []

    def begin(groups: int) -> Any:
        ready = FORK.Event()

        def hold() -> None:
            taking = Taking(taken, 10, 2)
            for _ in range(groups):
                assert taking.take() is not None
            ready.set()
            time.sleep(100)

        processes.append(FORK.Process(target=hold))
        processes[-1].start()
        assert ready.wait(60)
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.join()


def test_rows_of_a_process_that_died_are_free(taken: Path, other: Callable[[int], Any]) -> None:
    first, second = other(1), other(2)
    taking = Taking(taken, 10, 2)
    assert taking.take() == range(6, 8) and taking.take() == range(8, 10) and taking.take() is None
    first.kill()
    first.join()
    assert taking.take() == range(2)
    taking.done(range(2))
    taking.done(range(6, 8))
    assert taking.left() == 6 and taking.take() is None
    second.kill()
    second.join()
    assert [taking.take(), taking.take(), taking.take()] == [range(2, 4), range(4, 6), None]
    taking.again(7)
    assert taking.take() == range(6, 8)
    taking.close()


def test_who_joins_is_told_whether_others_are_there(tmp_path: Path) -> None:
    told: list[bool] = []
    with joined(tmp_path, told.append):
        ready = FORK.Queue()

        def join() -> None:
            with joined(tmp_path, ready.put):
                pass

        process = FORK.Process(target=join)
        process.start()
        assert ready.get(timeout=60) is False
        process.join()
        with pytest.raises(UserError, match="another process"), alone(tmp_path):
            pass
    assert told == [True] and not any(tmp_path.iterdir())
    with alone(tmp_path), pytest.raises(UserError, match="another process"), joined(tmp_path, told.append):
        pass


def test_lines_of_other_rows_and_folders_are_not_taken(rows: list[Row], tmp_path: Path) -> None:
    good = '{"row": 1, "seen": "", "file": "a.0.records", "at": 0, "sizes": [[1, 1]]}'
    for line, known in {
        good: True,
        good.replace('"row": 1', '"row": 60'): False,
        good.replace('"row": 1', '"row": -1'): False,
        good.replace('"row": 1', '"row": "1"'): False,
        good.replace("a.0", "../a.0"): False,
        good.replace("[[1, 1]]", "[]"): False,
        good.replace("[[1, 1]]", "3"): False,
        good.replace('"at": 0', '"at": -1'): False,
        '{"row": 1, "seen": "", "rejected": {}}': False,
        '{"row": 1, "seen": "", "rejected": {"rejected": "replay"}}': True,
        "[" * 100_000: False,
        "null": False,
    }.items():
        (tmp_path / f"a{LINES}").write_text(line + "\n")
        found = Outcomes(rows, tmp_path)
        found.refresh()
        assert any(found.known) is known, line[:80]


def test_a_full_disk_is_one_message(rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "parts") as journal:
        journal.add([outcome(rows, 1)])

        def full(number: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        monkeypatch.setattr(outcomes_module, "_SYNC_S", -1)
        with pytest.raises(UserError, match=r"cannot be written .No space left on device"):
            journal.add([outcome(rows, 2)])
