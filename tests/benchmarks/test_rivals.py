"""Rivals side by side: what their losses are, that their edits lower them, and that what is done is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.rivals import __main__ as command
from benchmarks.rivals.arena import Arena, empty
from benchmarks.rivals.attend_and_excite import ExciteLoss, attend_and_excite, smooth
from benchmarks.rivals.base import Ring
from benchmarks.rivals.flowmo import flowmo, unevenness
from benchmarks.rivals.gradient import PlainGradient
from benchmarks.rivals.learn_to_steer import learn_to_steer
from benchmarks.rivals.ours import BestOf, Guided, Pruned, Unguided
from benchmarks.rivals.table import figures, markdown
from cvg.common.errors import DataError, SettingsError
from cvg.common.files import read_json, write_json
from cvg.evaluation.suites import Case, SuiteSettings, load_suite
from cvg.generators import wrap_pipeline
from cvg.guidance.rules import Rules
from cvg.shapes.world import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline


@pytest.fixture(scope="module")
def ring() -> Ring:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    classifier = tiny_classifier(generator).eval().requires_grad_(False)
    return Ring(generator, classifier, STEPS, None, generator.pixel_size(classifier.config.token_grid))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return load_suite("shapes").cases(2, 3)


@pytest.mark.parametrize("make", [attend_and_excite, flowmo, learn_to_steer])
def test_an_edit_goes_down_the_loss_of_each_sample(ring: Ring, cases: list[Case], make: Any) -> None:
    rival: PlainGradient = make(ring)
    rival.adopt(rival.prepare(cases))
    rival.step_size = 1e-3
    loss = rival.loss(ring, cases)
    z = ring.generator.initial_latents([torch.Generator().manual_seed(seed) for seed in range(2)], ring.size)
    with torch.no_grad():
        before = loss.value(z, 0, range(2))
        after = loss.value(rival.edited(loss, 0, z), 0, range(2))
        assert (after < before).all()
        torch.testing.assert_close(loss.value(z[1:], 0, [1]), before[1:])  # whatever it is batched with
    assert not torch.equal(rival(cases), ring.videos(cases))


def test_the_weakest_entity_counts_and_a_missing_one_does_not(ring: Ring, cases: list[Case]) -> None:
    loss = ExciteLoss(ring, cases)
    counts = [len(case.asked.entities) for case in cases]
    assert loss.present_BE.sum(1).tolist() == counts and min(counts) == 1
    z = ring.generator.initial_latents([torch.Generator().manual_seed(0)] * 2, ring.size)
    value_B = loss.value(z, 0, range(2))
    assert ((value_B > 0) & (value_B < 1)).all()
    assert [loss.most(step) for step in (0, 2)] == [21, 1]
    assert loss.wants(torch.tensor([0.94, 0.96]), 0, 1) == [False, True]


def test_smoothing_keeps_what_is_even_and_lowers_a_peak() -> None:
    even = torch.full((1, 1, 1, 4, 4), 0.3)
    torch.testing.assert_close(smooth(even), even)
    peak = torch.zeros(1, 2, 3, 5, 5)
    peak[..., 2, 2] = 1
    assert smooth(peak).amax() < 0.7
    torch.testing.assert_close(smooth(peak).sum((-1, -2)), torch.ones(1, 2, 3))


def test_even_motion_has_no_variance_and_a_jump_has() -> None:
    video = torch.arange(4.0)[None, None, :, None, None].expand(1, 2, 4, 3, 3).clone()
    assert unevenness(video).item() == 0
    video[:, :, 3, 1, 1] += 3  # distances 1, 1, 4: variance 2
    assert unevenness(video).item() == pytest.approx(2)


def test_a_choice_of_one_is_the_plain_video(ring: Ring, cases: list[Case]) -> None:
    plain = Unguided("unguided", ring)(cases)
    assert torch.equal(BestOf("one", ring, 1)(cases), plain)
    assert torch.equal(Pruned("one", ring, 1)(cases), plain)
    still = Guided("still", ring, ring.classifier)
    still.step_size = 0.0
    assert torch.equal(still(cases), plain)
    two = BestOf("two", ring, 2)(cases)
    others = ring.videos(cases, candidate=1)
    assert all(any(torch.equal(two[i], one[i]) for one in (plain, others)) for i in range(2))


def test_rules_leave_a_prompt_as_it_is_where_they_have_no_formula(ring: Ring) -> None:
    mixed = load_suite("shapes", settings=SuiteSettings(kinds=["depth", "motion"])).cases(2, 3)
    rules = Rules.of(ring.generator, LABELS, ring.size, sigmas=ring.classifier.config.sigmas)
    plain, guided = ring.videos(mixed), Guided("rules", ring, rules)(mixed)
    torch.testing.assert_close(guided[0], plain[0], atol=1e-4, rtol=0)  # sampled beside another, and alone
    assert (guided[1] - plain[1]).abs().max() > 1e-2


class Counting:
    """A rival that counts its calls and shows noise."""

    def __init__(self, name: str, step_sizes: tuple[float, ...] = ()) -> None:
        self.weights: list[nn.Module] = []
        self.name, self.step_sizes, self.calls, self.unit = name, step_sizes, 0, 0.0
        self.step_size: float | None = None
        self.looks = 0

    def prepare(self, cases: Sequence[Case]) -> dict[str, float]:
        return {"unit": 2.0}

    def adopt(self, measured: dict[str, float]) -> None:
        self.unit = measured["unit"]

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        self.calls += 1
        self.looks += round(1 / (self.step_size or 1))  # a longer step arrives sooner
        return torch.zeros(len(cases), 3, 13, 64, 64)


def test_what_is_done_is_not_done_again_and_the_table_says_it(ring: Ring, tmp_path: Path) -> None:
    path, results, suite = tmp_path / "rivals.json", empty(), load_suite("shapes")

    def fight(prompts: int) -> list[Counting]:
        rivals = [Counting("unguided"), Counting("other", (0.1, 0.2))]
        known = read_json(path) if path.exists() else results
        arena = Arena(suite, ring, rivals, known, lambda: write_json(path, known))
        arena.tune(rivals[1], suite.cases(2, 1), 2, lambda line: None)
        arena.run(rivals, suite.cases(prompts, 0), 2, lambda line: None)
        return rivals

    assert [rival.calls for rival in fight(3)] == [2, 2 + 2]
    assert [rival.calls for rival in fight(4)] == [1, 1]  # the last batch was not whole
    again = fight(4)
    assert [rival.calls for rival in again] == [0, 0] and again[1].unit == 2.0 and again[1].step_size == 0.2
    assert [rival.calls for rival in fight(6)] == [1, 1]
    known = read_json(path)
    del known["batches"][0]["other"]
    write_json(path, known)
    assert [rival.calls for rival in fight(6)] == [1, 1]  # the pipeline as it is again, for the time of the other
    kept = read_json(path)
    for batch in kept["batches"]:
        assert batch["unguided"]["plain_seconds"] == batch["unguided"]["seconds"]
        batch["unguided"] |= {"right": [True, False]}
        batch["other"] |= {"seconds": 3.0, "plain_seconds": 2.0}
    del kept["batches"][-1]["other"]
    rows = figures(kept, ["unguided", "other"])
    assert [row["n"] for row in rows] == [6, 4]
    assert rows[0]["right"] == 0.5 and rows[0]["time"] == 1 and rows[1]["time"] == 1.5 and rows[1]["step_size"] == 0.2
    assert rows[0]["by_kind"] == {"motion": 1.0, "spatial": 0.0, "relative_motion": 1.0, "two_relations": 0.0}
    table = " ".join(markdown("tiny", rows).split())
    assert "| other (4 prompts) | 0.00 (0.00 to 0.49) |" in table
    assert "| unguided | 1.00 | 0.00 | 1.00 | 0.00 |" in table
    assert markdown("tiny", figures(empty(), ["unguided"])) == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generators": ["shapes-van"]}, "give some of shapes-wan, shapes-cogvideox"),
        ({"generators": []}, "give some of"),
        ({"kinds": ["motion", "depth"]}, "kind 'depth' needs other labels than those of"),
        ({"kinds": ["depth"]}, "kind 'depth' needs other labels than those of"),
        ({"kinds": ["motions"]}, "kind 'motions': unknown"),
        ({"kinds": []}, "kinds .*: give some of motion, .*, or leave them out"),
        ({"seed": 7, "tune_seed": 7}, "would be chosen on the prompts that count"),
    ],
)
def test_bad_settings_are_told_before_the_work(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        command.main(out=tmp_path, **options)


def test_a_run_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    write_json(tmp_path / "rivals.json", {"settings": {"seed": 3}, "generators": {}})
    with pytest.raises(DataError, match=r"other settings \(tune_prompts, "):
        command.main(out=tmp_path, seed=3)
