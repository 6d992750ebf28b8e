"""The notebooks: complete, without outputs, and every cell runs in order."""

from __future__ import annotations

import ast
import importlib.machinery
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image as Picture

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


class Image:
    """In IPython's place, which the tests do without: a picture that is there, and moves."""

    def __init__(self, name: str) -> None:
        with Picture.open(name) as picture:
            self.frames, self.size = picture.n_frames, picture.size


@pytest.fixture(autouse=True)
def in_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPython", "IPython.display"):
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["IPython.display"], "Image", Image, raising=False)
    monkeypatch.chdir(tmp_path)


def code(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """As Jupyter does: all statements, and the value of the last one where it is an expression."""
    tree = ast.parse(source)
    if isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], tree.body[-1].value)
    names["_"] = None
    exec(compile(ast.fix_missing_locations(tree), "cell", "exec"), names)
    return names["_"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_one_and_has_no_outputs(notebook: Path) -> None:
    found = json.loads(notebook.read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5) and found["metadata"]["kernelspec"][
        "name"
    ] == "python3"
    cells = found["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) <= 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
    assert notebook.stat().st_size < 100_000


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_links_lead_somewhere(notebook: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links and all((notebook.parent / link).is_file() for link in links if "://" not in link)


def test_a_video_is_guided_in_ten_cells(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    values = [run_cell(source, names) for source in code(ROOT / "docs/notebooks/guide_a_video.ipynb")]
    pictures = [value for value in values if isinstance(value, Image)]
    assert [picture.size for picture in pictures] == [(256, 256), (256, 256), (512, 256), (512, 256)]
    assert all(picture.frames > 1 for picture in pictures)
    said = capsys.readouterr().out
    assert "towards - purple circle green square" in said and "\nwrong" in said and "\nright" in said
    assert not (names["unguided"] == names["guided"]).all()
