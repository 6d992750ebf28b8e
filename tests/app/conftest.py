"""Tiny models, an evaluation with its videos and shards, as the pages show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cvg import evaluate
from cvg.application.models import Models
from cvg.common.files import read_json, write_json
from cvg.composition import LabelSet
from tests.helpers import tiny

HOSTILE = "<img src=x onerror='window.hacked = 1'> ${window.hacked = 2} {{7 * 7}}"
"""In the place of an evaluation's prompt."""


@dataclass
class Served:
    """The pages of tiny models, served.

    Attributes:
        url: of the pages.
        names: of the classifiers that can be chosen.
        folder: holds all of the files that the pages are to show, and ``secret.txt``, which they are not.
        made: where files of videos that are made lie.
    """

    url: str
    names: list[str]
    folder: Path
    made: Path


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.make_both(tmp_path_factory.getbasetemp() / "tiny")[1])


@pytest.fixture(scope="session")
def models(classifier: str) -> Models:
    return Models([classifier], LabelSet.load("world"))


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory, classifier: str) -> tuple[Path, Path]:
    """An evaluation of three prompts and the folder of its videos: one made right, one that has a hostile prompt."""
    folder = tmp_path_factory.mktemp("evaluated")
    path, videos = folder / "evaluation.json", folder / "videos"
    options: dict[str, Any] = {"prompts": 3, "batch_size": 3, "controls": False, "steps": tiny.STEPS}
    evaluate.main(out=path, videos=videos, classifier=classifier, **options)
    told = read_json(path)
    for row, right in zip(told["rows"], [(False, True), (False, False), (True, False)], strict=True):
        row["unguided"]["right"], row["guided"]["right"] = right
    told["rows"][1]["prompt"] = HOSTILE
    del told["rows"][1]["video"]
    write_json(path, told)
    (folder / "secret.txt").write_text("a secret")
    return path, videos


@contextmanager
def serving(pages: Any, port: int) -> Iterator[str]:
    from cvg.application.serving import serve

    url = serve(pages, "127.0.0.1", port)
    try:
        yield url
    finally:
        pages.close(verbose=False)


@pytest.fixture(scope="session")
def served(
    models: Models, evaluated: tuple[Path, Path], shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    pytest.importorskip("gradio", reason="the extra app is not installed")
    from cvg.app import evaluation_at
    from cvg.application.serving import build
    from tests.helpers.servers import free_port

    folder = tmp_path_factory.mktemp("app")
    pages = build(
        models,
        folder,
        "a red circle moving up",
        steps=tiny.STEPS,
        previews=2,
        shards=(shards, None),
        evaluated=evaluation_at(*evaluated),
    )
    with serving(pages, free_port()) as url:
        yield Served(url, list(models.names), evaluated[0].parent, folder)
