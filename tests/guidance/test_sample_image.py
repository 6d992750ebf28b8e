"""``cvg sample --image``: from a picture's file to videos of it, and what is refused before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from diffusers import DiffusionPipeline

from cvg import evaluate, sample
from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError
from cvg.common.files import read_json
from cvg.common.sizes import Size
from cvg.evaluation.suites import SuiteSettings, load_suite
from cvg.guidance.config import GuidanceConfig
from tests.guidance.test_image_to_video import BUILDS, PROMPT

STEPS = 9
SIZES = {name: size for name, (_, size) in BUILDS.items()} | {"wan 2.2": Size(5, 64, 32)}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family's tiny random model."""
    folders = {}
    for name in ("wan 2.2", "cogvideox", "ltx"):
        folders[name] = tmp_path_factory.mktemp("models") / name.replace(" ", "-")
        BUILDS[name][0]().save_pretrained(folders[name])
    return folders


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Noise, of another shape than the videos."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "first.png")
    return tmp_path / "first.png"


def command(pipeline: Path, size: Sequence[int], image: Path | None, out: Path, *more: str) -> list[Path]:
    said = ["--prompt", PROMPT, "--out", str(out), "--classifier", "rules", "--labels", "shapes", "--scale", "1"]
    said += ["--generator", str(pipeline), "--size", str(list(size)), "--steps", str(STEPS), *more]
    said += ["--guiding.guided_steps", "1"]
    said += [] if image is None else ["--image", str(image)]
    made: list[Path] = run(sample.main, "cvg sample", args=said)
    return made


@pytest.mark.parametrize("name", ["wan 2.2", "cogvideox", "ltx"])
def test_videos_of_a_picture(name: str, pipelines: dict[str, Path], picture: Path, tmp_path: Path) -> None:
    folder, size = pipelines[name], SIZES[name]
    (video,) = command(folder, size, picture, tmp_path / "one")
    told = read_json(video.with_suffix(".json"))
    assert len(told["image"]["sha256"]) == 64 and told["relations"][0]["label"] == "up"
    assert video.with_suffix(".side-by-side.mp4").exists()
    if name != "wan 2.2":
        return
    before = video.stat().st_mtime_ns
    command(folder, size, picture, tmp_path / "one")
    assert video.stat().st_mtime_ns == before  # made before, of this picture
    PIL.Image.new("RGB", (40, 40), "blue").save(picture)
    command(folder, size, picture, tmp_path / "one")
    other = read_json(video.with_suffix(".json"))
    assert video.stat().st_mtime_ns > before and other["image"] != told["image"]


def test_videos_that_end_with_a_picture(pipelines: dict[str, Path], picture: Path, tmp_path: Path) -> None:
    """The plain videos are those of the pipeline's own call; guided ones see its end too."""
    name, size = "wan 2.2", SIZES["wan 2.2"]
    last = tmp_path / "last.png"
    PIL.Image.new("RGB", (40, 40), "blue").save(last)
    (video,) = command(pipelines[name], size, picture, tmp_path / "both", "--last_image", str(last))
    told = read_json(video.with_suffix(".json"))["image"]
    assert len(told["last_sha256"]) == 64 != told["sha256"] and video.with_suffix(".side-by-side.mp4").exists()
    plain = ["--guidance", "off"]
    (ends,) = command(pipelines[name], size, picture, tmp_path / "ends", "--last_image", str(last), *plain)
    (open_ended,) = command(pipelines[name], size, picture, tmp_path / "open", *plain)
    assert ends.read_bytes() != open_ended.read_bytes() and ends.read_bytes() != video.read_bytes()


def test_the_best_of_several_seeds_where_the_image_is_not_drawn(
    pipelines: dict[str, Path], picture: Path, tmp_path: Path
) -> None:
    more = ["--guidance", "score", "--candidates", "2"]
    (video,) = command(pipelines["ltx"], SIZES["ltx"], picture, tmp_path / "best", *more)
    kept = read_json(video.with_suffix(".json"))["kept_seed"]
    (plain,) = command(
        pipelines["ltx"], SIZES["ltx"], picture, tmp_path / "plain", "--guidance", "off", "--seed", str(kept)
    )
    assert plain.read_bytes() == video.read_bytes()
    with pytest.raises(SettingsError, match="other conditions of its image with every seed"):
        sampled(pipelines["cogvideox"], picture, tmp_path, size=SIZES["cogvideox"], guidance="score")


def sampled(model: Path | str, image: Path | None, out: Path, **more: Any) -> Any:
    options: dict[str, Any] = {"size": SIZES["wan 2.2"], "classifier": "rules", "labels": "shapes", "steps": STEPS}
    options["guiding"] = GuidanceConfig(guided_steps=1)
    return sample.main(PROMPT, out=out / "out", generator=str(model), image=image, **options | more)


def test_what_does_not_go_together_is_refused_before_a_model_is_loaded(
    pipelines: dict[str, Path], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(DataError, match="there is no such file"):
        sampled(pipelines["wan 2.2"], tmp_path / "none.png", tmp_path)
    with pytest.raises(DataError, match="cannot be read as a picture"):
        sampled(pipelines["wan 2.2"], text, tmp_path)
    with pytest.raises(SettingsError, match=r"image: shapes-wan \(WanPipeline\) makes videos of text alone; leave"):
        sampled("shapes-wan", picture, tmp_path)
    with pytest.raises(SettingsError, match=r"\(WanImageToVideoPipeline\) makes videos of images; give one"):
        sampled(pipelines["wan 2.2"], None, tmp_path)
    size = SIZES["ltx"]
    with pytest.raises(SettingsError, match=r"\(LTXImageToVideoPipeline\) makes videos of images; give one"):
        evaluate.main(classifier="rules", generator=str(pipelines["ltx"]), size=size, out=tmp_path / "e.json")
    with pytest.raises(SettingsError, match="text alone"):
        sample.main(PROMPT, out=tmp_path / "out", image=picture)
    with pytest.raises(SettingsError, match=r"last_image: .*\(LTXImageToVideoPipeline\) is told the first frame alone"):
        sampled(pipelines["ltx"], picture, tmp_path, size=size, last_image=picture)
    with pytest.raises(SettingsError, match="last_image .*: goes with a first one; give that too"):
        sampled(pipelines["wan 2.2"], None, tmp_path, last_image=picture)


def test_the_image_is_no_argument_of_the_pipelines_call(
    pipelines: dict[str, Path], picture: Path, tmp_path: Path
) -> None:
    for name in ("image", "last_image"):
        with pytest.raises(SettingsError, match=f"pipeline {name}: cannot be given, as it has an option of its own"):
            sampled(pipelines["wan 2.2"], picture, tmp_path, pipeline={name: "x.png"})


def test_prompts_of_a_file_have_pictures_of_their_own(
    pipelines: dict[str, Path], picture: Path, tmp_path: Path
) -> None:
    """Each is made as it would be alone, of its own picture; one without takes that of all."""
    PIL.Image.new("RGB", (40, 40), "blue").save(tmp_path / "blue sky.png")
    lines = [
        {"prompt": PROMPT, "image": "blue sky.png"},
        {"prompt": PROMPT},
        {"prompt": "a lake", "image": "blue sky.png"},
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    options: dict[str, Any] = {"generator": str(pipelines["ltx"]), "size": SIZES["ltx"], "steps": 2, "scale": 1}
    options |= {"classifier": "rules", "labels": "shapes", "guidance": "off", "batch_size": 1}
    of_file = sample.main(out=tmp_path / "file", prompts_file=tmp_path / "prompts.jsonl", image=picture, **options)
    alone = [
        *sample.main(PROMPT, out=tmp_path / "alone", image=tmp_path / "blue sky.png", **options),
        *sample.main(PROMPT, out=tmp_path / "other", image=picture, **options),
    ]
    assert [path.stem.removesuffix("_seed0") for path in of_file] == [
        f"{alone[0].stem.removesuffix('_seed0')}_blue-sky",
        alone[1].stem.removesuffix("_seed0"),
        "a-lake_blue-sky",
    ]
    assert [path.read_bytes() for path in of_file[:2]] == [path.read_bytes() for path in alone]
    told, others = ([read_json(path.with_suffix(".json"))["image"] for path in paths] for paths in (of_file, alone))
    assert told == [*others, told[0]] and told[0] != told[1]
    before = [path.stat().st_mtime_ns for path in of_file]
    sample.main(out=tmp_path / "file", prompts_file=tmp_path / "prompts.jsonl", image=picture, **options)
    assert before == [path.stat().st_mtime_ns for path in of_file]
    with pytest.raises(SettingsError, match=f"prompt '{PROMPT}': has no image, and others have; give each one"):
        sample.main(out=tmp_path / "file", prompts_file=tmp_path / "prompts.jsonl", **options)
    with pytest.raises(DataError, match="line 1: has an image, and videos are made of text alone here"):
        load_suite("prompts", settings=SuiteSettings(prompts_file=tmp_path / "prompts.jsonl"))
