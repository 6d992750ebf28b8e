import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cvg.common.errors import UserError
from cvg.common.files import alone, atomic, read_json, require_writable, slug, sweep, write_json


def test_atomic_renames_on_success_and_keeps_the_suffix(tmp_path: Path) -> None:
    target = tmp_path / "new" / "clip.mp4"
    with atomic(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"video")
        assert not target.exists()
    assert target.read_bytes() == b"video"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_names_the_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.json"):
        write_json(tmp_path / "file" / "a.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder"):
        write_json(tmp_path / "folder", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "größer"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe\x00"])
def test_read_json_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "shards.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"shards\.json"):
        read_json(path)


def test_a_long_name_may_be_written_and_a_full_disk_is_one_message(tmp_path: Path) -> None:
    name = "n" * 250 + ".json"
    write_json(tmp_path / name, {"a": "\ud800"})
    assert read_json(tmp_path / name) == {"a": "\ud800"}

    def fill() -> None:
        with atomic(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"a\.bin: cannot be written \(No space left on device\)"):
        fill()


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    with atomic(tmp_path / "a.tar") as left:
        left.write_text("whole")
        name = left.name
    (tmp_path / name).write_text("half")
    for other in (".hidden", "a.part.tar", ".a.12345678.tar"):
        (tmp_path / other).write_text("mine")
    sweep(tmp_path)
    assert (tmp_path / name).exists()
    sweep(tmp_path, older=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.12345678.tar", ".hidden", "a.part.tar", "a.tar"]


def test_a_folder_is_one_process_s_at_a_time_and_the_lock_dies_with_it(tmp_path: Path) -> None:
    code = f"from cvg.common.files import alone\nwith alone({str(tmp_path)!r}): print('in', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline()
    with pytest.raises(UserError, match="another process is writing there"), alone(tmp_path):
        pass
    other.kill()
    other.communicate()
    with alone(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_on_a_file_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match=r"a\.json: another process .*choose another name")
    with alone(tmp_path, "a.json"), alone(tmp_path, "b.json"), refused, alone(tmp_path, "a.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as temporary:
        os.close(os.open(temporary, os.O_CREAT, 0o600))
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_places_are_tried_and_left_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    require_writable(None, tmp_path / "new" / "deep" / "a.json", tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"
    for wrong in (tmp_path / "file" / "a", tmp_path, tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UserError, match=r"cannot be written|is a folder"):
            require_writable(wrong)


def test_a_slug_tells_texts_apart() -> None:
    assert slug("a red circle 3") == "a-red-circle-3"
    texts = [
        "x" * 90 + "a",
        "x" * 90 + "b",
        "赤い円",
        "青い円",
        "a dog",
        "A dog",
        "a  dog",
        "a dog.",
        "a, dog",
        "\ud800",
    ]
    assert len({slug(text) for text in texts}) == len(texts)
    assert all(len(slug(text)) <= 89 and slug(text).isascii() for text in texts)
