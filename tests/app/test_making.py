"""A video of the page: the same as the command's, shown as it denoises, and ended when nobody waits for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from cvg import sample
from cvg.application.making import Made, Making, Stage, Wish
from cvg.application.models import CLASSIFIER, Models
from cvg.application.understanding import understand
from cvg.common.errors import SettingsError, UserError
from cvg.common.files import read_json
from cvg.composition import LabelSet
from tests.helpers import tiny

UP = "a red circle moving up"


def wish(models: Models, prompt: str = UP, way: str = CLASSIFIER, **changes: Any) -> Wish:
    name = models.names[0]
    found = understand(prompt, models.label_set(name, way), way != CLASSIFIER)
    return Wish(**{**vars(Wish(name, way, prompt, found.composition, 0, tiny.STEPS)), **changes})


def made(models: Models, folder: Path, *args: Any, previews: int = 0, **changes: Any) -> tuple[list[Stage], Made]:
    *stages, last = Making(models, wish(models, *args, **changes), folder, previews)
    assert isinstance(last, Made)
    return stages, last  # type: ignore[return-value]


def test_the_video_is_that_of_the_command(models: Models, tmp_path: Path) -> None:
    (video,) = sample.main(UP, out=tmp_path / "command", classifier=models.names[0], steps=tiny.STEPS, batch_size=1)
    _, found = made(models, tmp_path / "page")
    assert [path.name for path in found.files] == [
        video.with_suffix(suffix).name for suffix in (".mp4", ".side-by-side.mp4", ".side-by-side.gif", ".json")
    ]
    for path in found.files[:-1]:
        assert path.read_bytes() == (video.parent / path.name).read_bytes()
    theirs, mine = read_json(video.with_suffix(".json")), read_json(found.files[-1])
    same = set(mine) - {"seconds", "understood"}
    assert {name: mine[name] for name in same} == {name: theirs[name] for name in same}
    assert mine["understood"] == [["up", "red circle"]]


def test_it_is_shown_as_it_denoises_and_showing_it_changes_nothing(models: Models, tmp_path: Path) -> None:
    stages, shown = made(models, tmp_path / "shown", previews=2)
    _, plain = made(models, tmp_path / "plain")
    assert shown.files[0].read_bytes() == plain.files[0].read_bytes()
    first, last = 0, tiny.STEPS - 1
    assert [(stage.side, stage.step, sorted(stage.frames)) for stage in stages if stage.frames] == [
        ("unguided", first, ["unguided"]),
        ("unguided", last, ["unguided"]),
        ("guided", first, ["guided", "unguided"]),
        ("guided", last, ["guided", "unguided"]),
    ]
    assert [stage.share for stage in stages] == sorted(stage.share for stage in stages)
    assert stages[-1].share < 1
    (overlay,) = shown.overlays
    assert len(overlay.unguided_probability) == len(overlay.levels) == len(shown.relations[0]["steps"])
    assert overlay.unguided_probability[0] == pytest.approx(shown.relations[0]["probability_before"], abs=1e-5)


def test_a_prompt_without_relations_is_sampled_plainly(models: Models, tmp_path: Path) -> None:
    _, found = made(models, tmp_path, "a red circle")
    assert [path.suffix for path in found.files] == [".mp4", ".json"] and list(found.frames) == ["unguided"]
    assert read_json(found.files[-1])["guidance"] == "off"


def test_rules_guide_beside_a_classifier(models: Models, tmp_path: Path) -> None:
    _, found = made(models, tmp_path, way="rules", steps=11)  # fewer have no steps near their noise levels
    assert read_json(found.files[-1])["classifier"]["name"] == "rules"
    assert {relation["label"] for relation in found.relations} == {"red", "up"}


def test_it_ends_when_it_is_stopped(models: Models, tmp_path: Path) -> None:
    making = Making(models, wish(models), tmp_path, previews=0)
    seen = []
    for stage in making:
        seen.append(stage)
        making.stop()
    assert not any(isinstance(stage, Made) for stage in seen) and not list(tmp_path.iterdir())
    assert models.lock.acquire(timeout=10)  # the next one can be made
    models.lock.release()


def test_one_that_nobody_waits_for_ends_too(models: Models, tmp_path: Path) -> None:
    begun = iter(Making(models, wish(models), tmp_path, previews=0))
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.daemon and "_work" in thread.name:
            thread.join(timeout=30)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seed": -1}, "seed -1"),
        ({"steps": 0}, "steps 0"),
        ({"steps": 100_000}, "at most"),
        ({"model": "/etc"}, "not offered"),
        ({"model": "shapes-cogvideox-classifier"}, "not offered"),
        ({"way": "magic"}, "not offered"),
    ],
)
def test_wishes_that_cannot_be_had_are_refused(
    models: Models, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        list(Making(models, wish(models, **changes), tmp_path, 0))
    assert not list(tmp_path.iterdir())


def test_rules_alone_need_a_generator_and_a_size() -> None:
    with pytest.raises(SettingsError, match="give generator and size"):
        Models(["rules"], LabelSet.load("world"))
    assert Models(["rules"], LabelSet.load("world"), "shapes-wan", (5, 32, 32)).ways("rules") == ["rules"]  # type: ignore[arg-type]
