"""The layers and heads of rules, from prompts alone: what is looked at, what is written, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from cvg import sample
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.generators import load_generator
from data_prep import probe_rules
from tests.helpers.labels import LABELS
from tests.helpers.tiny import make_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle above a red square"] * 3
STEPS = 12


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generator"))


def test_what_is_looked_at_is_the_plain_video_and_no_further_step_is_computed(pipeline: Path) -> None:
    generator, size = load_generator(str(pipeline)), Size(13, 64, 64)
    asked, seen, calls = [parse(prompt, LABELS) for prompt in PROMPTS[:2]], {}, []
    noise = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    z = generator.initial_latents(noise, size)

    def keep(step: int, latents: torch.Tensor) -> torch.Tensor:
        seen[step] = latents.clone()
        return latents

    generator.sample(PROMPTS[:2], z, 6, None, size, keep, noise)
    handle = generator.network.register_forward_hook(lambda *_: calls.append(1))
    found = probe_rules.maps_at(generator, asked, [3, 4], [0, 3], [0, 2], [1], 6, None, size)
    handle.remove()
    assert found.shape == (2, 2, 2, 1, 2, 4, 8, 8) and len(calls) == 2 * 3 + 2  # three steps and two looks
    timesteps = generator.schedule(6, size).timesteps
    with torch.no_grad():
        for place, step in enumerate((0, 3)):
            maps = generator.entity_maps(seen[step], timesteps[step], generator.encode(asked), [0, 2], [1])
            torch.testing.assert_close(found[place], maps.half())


def test_the_choice_is_written_as_options_that_sampling_takes(pipeline: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "probe"
    prompts.write_text("\n".join([*PROMPTS, "nothing at all"]))
    found = probe_rules.main(prompts, str(pipeline), out=out, labels="shapes", steps=STEPS, layers=[1, 2])
    told = read_json(out / "rules.json")
    assert told["prompts"] == 6 and told["chosen"]["layers"] == [[1, 2][i] for i in found.layers]
    assert told["probed"]["layers"] == [1, 2] and told["probed"]["late"] == 7
    assert told["why"]["chosen"]["place"] == pytest.approx(found.chosen.place)
    options = yaml.safe_load((out / "rules.yaml").read_text())
    assert options["guiding"] == told["chosen"] and options["generator"] == str(pipeline)
    given = ["--config", str(out / "rules.yaml"), "--labels", "shapes", "--steps", str(STEPS)]
    made = run(sample.main, "x", args=[*given, "--prompt", PROMPTS[0], "--out", str(tmp_path / "videos")])
    side = read_json(made[0].with_suffix(".json"))
    assert side["classifier"]["layers"] == told["chosen"]["layers"]
    assert side["classifier"]["heads"] == told["chosen"]["heads"]


def test_too_few_steps_prompts_and_entities_are_refused(pipeline: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"

    def probe(text: str, steps: int = STEPS) -> None:
        prompts.write_text(text)
        probe_rules.main(prompts, str(pipeline), out=tmp_path / "probe", labels="shapes", steps=steps)

    with pytest.raises(UserError, match="none of 1 states a relation"):
        probe("nothing at all")
    with pytest.raises(UserError, match="4 steps: too few"):
        probe(PROMPTS[0], 4)
    with pytest.raises(UserError, match="2 entities: give prompts"):
        probe(PROMPTS[0])
    assert not (tmp_path / "probe" / "rules.yaml").exists()


def test_a_classifier_takes_no_layers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(sample.main, "x", args=["--prompt", PROMPTS[0], "--guiding.layers", "[1]", "--out", str(tmp_path)])
    assert "a classifier reads those that it was trained on" in capsys.readouterr().err
