"""The whole way, small: from a folder of VidOR's form to guided videos."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import real_world
from cvg.common.files import read_json


@pytest.mark.slow
def test_from_annotations_to_guided_videos(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = {"videos": 20, "per_label": 1, "epochs": 1, "prompts": 1, "steps": 12}
    found = real_world.main(tmp_path, **small)
    said = capfd.readouterr()
    made = found["inversion"]
    assert made["rows"] == 10 and 3 <= made["killed after"] < 10
    assert re.search(r"1 of 4 processes ended early \(exit code -9\), the rest went on", said.err)
    assert sum(found["records"].values()) + sum(found["rejected"].values()) == 10
    assert re.search(r"train records, .* are streamed: 4 readers", said.out)
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == 2  # fetched from the server
    assert list((tmp_path / "sample").glob("*.side-by-side.mp4"))
    assert found["guided"]["n"] == found["unguided"]["n"] == found["rules"]["n"] == 1
    assert found == read_json(tmp_path / "figures.json")
    assert real_world.main(tmp_path, **small) == found
    assert capfd.readouterr().out.count(": done before") == 6
