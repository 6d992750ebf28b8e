"""Distillation to a few steps: what is learned is exact on straight lines, and the LoRA is one that people load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cvg import sample
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.diffusion.schedule import Prediction, Schedule
from cvg.generators import Loading, load_generator
from cvg.shapes.world import KINDS, sample_spec
from data_prep.made_of import require_same
from data_prep.pretrain import few_steps

TINY = {"videos": 4, "teacher_steps": 2, "rank": 2, "batch_size": 2, "steps": 3}


def _schedule(prediction: Prediction) -> Schedule:
    sigmas = torch.tensor([1.0, 0.9, 0.6, 0.3, 0.0]).double()
    alphas = 1 - sigmas if prediction == "flow" else (1 - sigmas.square()).sqrt()
    return Schedule(torch.tensor([999, 900, 600, 300]), alphas, sigmas, prediction)


@pytest.mark.parametrize("prediction", ["flow", "v"])
def test_who_knows_the_line_arrives_in_any_number_of_its_steps(prediction: Prediction) -> None:
    schedule = _schedule(prediction)
    clean, noise = torch.randn(2, 3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    z = noise
    for i in range(4):
        point, wanted = few_steps.on_the_line(clean, noise, schedule, torch.full((3,), i))
        torch.testing.assert_close(z, point)
        z = schedule.step(z, wanted, i)
    torch.testing.assert_close(z, clean)
    point, wanted = few_steps.on_the_line(clean, noise, schedule, torch.tensor([0, 2, 3]))
    for b, i in enumerate((0, 2, 3)):  # each video at a step of its own, and from there to the end at once
        a, c = schedule.between(i, 4)
        torch.testing.assert_close(a * point[b] + c * wanted[b], clean[b])


def test_a_network_that_predicts_noise_is_refused() -> None:
    with pytest.raises(UserError, match="predicts noise"):
        few_steps.on_the_line(*torch.zeros(2, 1, 1, 1, 1, 1), _schedule("noise"), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize("name", ["shapes-wan", pytest.param("shapes-cogvideox", marks=pytest.mark.slow)])
def test_a_lora_is_trained_saved_and_loaded(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = 5.0 if name == "shapes-wan" else None
    few_steps.main(out=tmp_path, generator=name, flow_shift=shift, **TINY)
    folder = tmp_path / "lora"
    file = folder / "pytorch_lora_weights.safetensors"
    assert f"--lora {folder}" in capsys.readouterr().out
    learned = [tensor for key, tensor in load_file(file).items() if "lora_B" in key]
    assert learned and all(tensor.any() for tensor in learned)  # factors that begin as zero

    plain = load_generator(name, Loading(flow_shift=shift))
    changed = load_generator(name, Loading(flow_shift=shift, lora=str(folder)))
    noise = plain.initial_latents([torch.Generator().manual_seed(0)], few_steps.VIDEO)
    with torch.no_grad():
        one, other = (g.sample(["a red circle"], noise, 4, 1.0, few_steps.VIDEO) for g in (plain, changed))
    assert not torch.equal(one, other)

    sampled = {path: path.stat().st_mtime_ns for path in (tmp_path / "pairs").iterdir()}
    file.unlink()
    few_steps.main(out=tmp_path, generator=name, flow_shift=shift, **TINY)
    assert file.exists()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pairs").iterdir()} == sampled
    with pytest.raises(UserError, match=r"pairs: made with steps 2; give another --out"):
        few_steps.main(out=tmp_path, generator=name, flow_shift=shift, **(TINY | {"teacher_steps": 3}))
    with pytest.raises(UserError, match=r"training: made with rank 2; give another --out"):
        few_steps.main(out=tmp_path, generator=name, flow_shift=shift, **(TINY | {"rank": 3}))


def test_files_of_unknown_settings_are_not_taken_up(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"has files, and no made_of.json"):
        require_same(tmp_path, {"rank": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_wrong_numbers_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="few"):
        few_steps.main(out=tmp_path, few=0)
    assert not list(tmp_path.iterdir())


def test_the_lora_that_ships_goes_nearly_straight() -> None:
    """Where the first step's velocity points to, and where four steps arrive: nearer to each other than without it."""
    asked = [sample_spec(np.random.default_rng([i, 3]), KINDS[i]).prompt for i in range(4)]
    missed = {}
    for lora in ("shapes-wan-4-steps", None):
        model = load_generator("shapes-wan", Loading(flow_shift=5.0, lora=lora))
        schedule = model.schedule(4, few_steps.VIDEO)
        noise = z = model.initial_latents([torch.Generator().manual_seed(i) for i in range(4)], few_steps.VIDEO)
        with torch.no_grad():
            states = model.encode_prompts(asked)
            velocities = []
            for step in range(4):
                velocities.append(model.predict(z, schedule.timesteps[step], states))
                z = schedule.step(z, velocities[-1], step)
        missed[lora] = float((noise - velocities[0] - z).pow(2).mean())
    assert missed["shapes-wan-4-steps"] < 0.6 * missed[None], missed


def test_the_configuration_that_ships_guides_four_steps_by_rules(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "cvg/configs/shapes_wan_4_steps.yaml"
    args = [f"--config={config}", "--labels=shapes", "--prompt=a red circle moving up", f"--out={tmp_path}"]
    (video,) = run(sample.main, "sample", args=[*args, "--compare=false"])
    told = read_json(video.with_suffix(".json"))
    assert told["steps"] == 4 and told["guidance_scale"] == 1
    assert told["relations"][0]["probability_after"] > 0.9 > told["relations"][0]["probability_before"]
