"""The evaluation: its statistics, its suite, and whole runs with a tiny random generator."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from cvg import report
from cvg.classifier import CompositionClassifier
from cvg.classifier.anchors import CAPTIONS
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import alone
from cvg.common.statistics import mcnemar, paired_bootstrap, paired_shares, wilson
from cvg.common.typed import to_dict
from cvg.composition import LabelSet, parse
from cvg.evaluate import REMEDIES, main
from cvg.evaluation.comparison import Comparison
from cvg.evaluation.early import early_verdicts, reachable_guided_steps, run_plain
from cvg.evaluation.rows import Row, read_evaluation, write_evaluation
from cvg.evaluation.runner import Runner, untrained, wrong_target
from cvg.evaluation.suites import Case, SuiteSettings, load_suite, scores
from cvg.evaluation.suites.registry import SUITES
from cvg.evaluation.summary import best_of, controls, gain, predictability, satisfied, summarise
from cvg.evaluation.timing import Timing
from cvg.generators import load_generator
from cvg.guidance.sampler import GuidedSampler
from cvg.judging import Reading
from cvg.media.video import read_video
from cvg.reporting.table import render as render_table
from cvg.shapes.renderer import render
from cvg.shapes.suite import ShapesSuite
from cvg.shapes.world import ALL_KINDS, KINDS, LABELS, entity_tuples, sample_scene, sample_spec
from tests.helpers import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "tiny"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(tiny.make_evaluation(folder).read_text())
    return loaded


@pytest.fixture(scope="module")
def sampler(folder: Path) -> GuidedSampler:
    pipeline, classifier = tiny.make_both(folder)
    return GuidedSampler(load_generator(str(pipeline)), CompositionClassifier.from_pretrained(classifier))


# Statistics


def test_wilson_known_values() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's formula by hand
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_paired_shares_by_hand() -> None:
    # won 6, lost 1 of 20: 7/22 - 2/22 = 0.2273, variance (9/22 - 0.2273**2) / 22 = 0.016246
    assert paired_shares(6, 1, 20) == pytest.approx((-0.0225, 0.4771), abs=1e-4)
    low, high = paired_shares(0, 0, 20)
    assert low < 0 < high


def test_mcnemar_by_hand() -> None:
    assert mcnemar(6, 1) == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0


def test_paired_bootstrap() -> None:
    assert paired_bootstrap([0.25] * 7, range(7)) == (0.25, 0.25)
    # The mean of 100 fair coins: binomial quantiles 40 and 60.
    assert paired_bootstrap([0.0, 1.0] * 50, range(100)) == pytest.approx((0.40, 0.60), abs=0.011)
    assert paired_bootstrap([0.0, 1.0, 2.0], "abc") == paired_bootstrap([0.0, 1.0, 2.0], "abc")
    assert paired_bootstrap([], []) == (0.0, 0.0)


def test_gain_counts_pairs() -> None:
    found = gain([True, False, False, True], [True, True, True, False])
    assert (found["won"], found["lost"], found["value"], found["n"]) == (2, 1, 0.25, 4)
    assert found["prompts"] == 4 and found["ci95"] == list(paired_shares(2, 1, 4)) and found["p"] == mcnemar(2, 1)
    before, after, prompts = [False] * 12, [True] * 12, [prompt for prompt in "abcd" for _ in range(3)]
    together, alone = gain(before, after, prompts), gain(before, after)
    assert together["value"] == alone["value"] == 1 and together["prompts"] == 4
    assert together["p"] > alone["p"] and together["ci95"][0] < alone["ci95"][0]
    assert gain([], [])["value"] is None  # as of a kind that nothing can guide


# Suite


def test_shapes_cases_are_held_out_balanced_and_prefix_stable() -> None:
    suite = ShapesSuite()
    cases = suite.cases(80, seed=3)
    assert suite.cases(9, seed=3) == cases[:9]
    assert suite.cases(9, seed=4) != cases[:9]
    assert Counter(case.group for case in cases) == dict.fromkeys(KINDS, 20)
    motion = Counter(case.asked.relations[0].label for case in cases if case.group == "motion")
    assert set(motion.values()) == {5}
    for case in cases:
        phrases = tuple(entity.phrase for entity in case.asked.entities)
        assert phrases in entity_tuples(len(phrases), held_out=True)
        assert parse(case.asked.prompt, LABELS) == case.asked
    assert len({seed for case in cases for seed in case.seeds}) == 80 * 4


def test_shapes_of_all_kinds() -> None:
    """Held-out entities, labels dealt in turn, what each prompt asks as the parser reads it; never a colour twice."""
    suite = load_suite("shapes", LABELS)
    assert suite.groups == ALL_KINDS
    cases = suite.cases(240, seed=3)
    assert suite.cases(21, seed=3) == cases[:21]
    dealt = Counter(relation.label for case in cases for relation in case.asked.relations)
    assert {*dealt} == {*LABELS.names}
    for group in ("depth", "action", "interaction", "change"):
        counts = [dealt[label.name] for label in LABELS.groups[group]]
        assert max(counts) - min(counts) <= 1
    for case in cases[:60]:
        assert parse(case.asked.prompt, LABELS) == case.asked
    for case in cases:
        phrases = tuple(entity.phrase for entity in case.asked.entities)
        said = [relation.label.split()[-1] for relation in case.asked.relations]
        if case.group == "attribute":
            phrases = tuple(f"{color} {shape}" for color, shape in zip(said, phrases, strict=True))
        if case.group == "change":
            assert said[0] != phrases[0].split()[0]
        assert phrases in entity_tuples(len(phrases), held_out=True)
    for case in suite.training_cases(30, seed=0):
        assert case.group in ALL_KINDS
    few = LABELS.to_dict()
    few["change"]["labels"] = {name: few["change"]["labels"][name] for name in ("turning red", "turning blue")}
    suite = load_suite("shapes", LabelSet(few))
    assert suite.groups == ALL_KINDS and len(suite.cases(100, seed=0)) == len(suite.training_cases(100, seed=0)) == 100


def test_shapes_of_another_label_set() -> None:
    """Its wordings, its labels dealt in turn, the kinds of prompts that it can make; and judged among its labels."""
    motion = {"right": ["gliding right"], "up right": ["gliding up and to the right"]}
    suite = load_suite("shapes", LabelSet({"motion": {"entities": 1, "labels": motion}}))
    assert suite.groups == ("motion",)
    cases = suite.cases(8, seed=3)
    labels = [case.asked.relations[0].label for case in cases]
    assert sorted(labels) == ["right"] * 4 + ["up right"] * 4
    assert all(motion[label][0] in case.asked.prompt for label, case in zip(labels, cases, strict=True))
    assert load_suite("shapes").groups == KINDS
    for groups, message in (
        (
            {"motion": {"entities": 1, "labels": {"up": ["up"], "spinning": ["spinning"]}}},
            "'spinning' of group 'motion'",
        ),
        ({"other": {"entities": 1, "labels": {"up": ["up"], "down": ["down"]}}}, "'up' of group 'other' cannot be"),
    ):
        with pytest.raises(UserError, match=message):
            load_suite("shapes", LabelSet(groups))


def test_shapes_of_chosen_kinds() -> None:
    """In turn, in the order in which they are named; of the world's own labels or of others that state them."""
    suite = load_suite("shapes", settings=SuiteSettings(kinds=["interaction", "depth"]))
    assert [case.group for case in suite.cases(4, seed=3)] == ["interaction", "depth"] * 2
    groups = {name: group for name, group in LABELS.to_dict().items() if name in ("motion", "depth")}
    assert load_suite("shapes", LabelSet(groups), settings=SuiteSettings(kinds=["depth"])).groups == ("depth",)
    for labels, kind, message in (
        (None, "sideways", "kind 'sideways': unknown; give some of motion, "),
        (None, "depth", "kind 'depth' is named twice"),
        (LabelSet(groups), "spatial", "kind 'spatial' needs other labels than those of motion, depth"),
    ):
        with pytest.raises(UserError, match=message):
            load_suite("shapes", labels, settings=SuiteSettings(kinds=["depth", kind]))


def test_shapes_judge_and_wrong_target() -> None:
    rng = np.random.default_rng(0)
    spec = sample_spec(rng, "two_relations")
    composition = spec.composition
    frames = render(sample_scene(spec, rng))
    suite = ShapesSuite()
    (score,) = scores(suite, [frames], [composition])
    assert score.right and score.labels == [relation.label for relation in spec.relations]
    other = wrong_target(composition, LABELS, seed=0)
    assert other.prompt == composition.prompt and other == wrong_target(composition, LABELS, seed=0)
    for before, after in zip(composition.relations, other.relations, strict=True):
        assert before.label != after.label and LABELS[before.label].group == LABELS[after.label].group
    found = scores(suite, [frames, frames[:, ::-1]], [other, composition])
    assert [score.right for score in found] == [False, False] and found[0].entities_right
    with pytest.raises(UserError, match="known: shapes"):
        load_suite("others")


def test_every_case_has_a_file_of_its_own() -> None:
    suite = ShapesSuite()
    cases = suite.cases(40, seed=0)
    names = [suite.video_name(case) for case in cases]
    assert len(set(names)) == 40 and all(Path(name).suffix == ".mp4" for name in names)


# Figures from rows


def _row(plain: str, guided: str) -> Row:
    def score(label: str) -> dict[str, Any]:
        right = label == "left"
        quality = {"smoothness": 0.9, "flicker": 0.01, "static_share": 0.0}
        return {"right": right, "entities_right": True, "labels": [label], "found": [True], "problems": []} | quality

    values = {
        "prompt": "a red circle moving left",
        "seed": 1,
        "group": "motion",
        "labels": ["left"],
        "unguided": score(plain),
        "guided": score(guided) | {"probability_before": [0.2], "probability_after": [0.99]},
        "early": [{"guided_step": 0, "step": 0, "labels": ["up"], "probability": [0.2]}],
        "zero_step": score(plain) | {"max_abs_difference": 0.0},
        "untrained": score(plain),
        "wrong_target": score("up") | {"target": ["up"]},
        "candidates": [
            {"seed": 1, "log_probability": -2.0, "right": plain == "left"},
            {"seed": 2, "log_probability": -1.0, "right": True},
            {"seed": 3, "log_probability": -3.0, "right": False},
        ],
    }
    return Row(**values)


ROWS = [_row("right", "left"), _row("left", "left"), _row("up", "right"), _row("left", "left")]
TIMING = Timing(unguided=[4.0, 4.0], guided=[5.0, 5.0], early=[0.4, 0.4], verdict=[0.1, 0.1])


def test_best_of_n_is_priced_both_ways() -> None:
    found = best_of(ROWS, TIMING, ratio=1.25)
    assert [entry["accuracy"] for entry in found["best_of_n"]] == [0.5, 1.0, 1.0]
    assert found["best_of_n"][1]["time_multiple"] == pytest.approx((16 + 0.4) / 8)
    assert found["best_of_n"][1]["time_multiple_dropping"] == pytest.approx((8 + 0.8 + 0.4) / 8)
    # n = 2 costs 1.15 when the loser is dropped, n = 3 1.275.
    assert found["best_of_n_equal_time"]["n"] == 2
    assert best_of(ROWS, TIMING, ratio=0.9)["best_of_n_equal_time"]["n"] == 1


def test_controls_predictability_and_satisfied() -> None:
    found = controls(ROWS)
    assert found is not None
    assert found["zero_step"]["identical"] and found["zero_step"]["gain"]["value"] == 0
    assert found["wrong_target"]["follows_target"]["share"] == 1.0
    assert found["wrong_target"]["unguided_follows_target"]["share"] == 0.25
    assert found["wrong_target"]["follows_prompt"]["share"] == 0.0
    (entry,) = predictability(ROWS, LABELS)
    assert entry["agreement"] == 0.25 and entry["chance"] == 0.25 and entry["n"] == 4
    done = satisfied(ROWS, 0.95)
    assert done["before"]["share"] == 0 and done["after"]["share"] == 1
    assert done["wrong_though_satisfied"]["share"] == 0.25
    undecided = replace(ROWS[0], unguided=replace(ROWS[0].unguided, labels=[None]))
    assert predictability([undecided], LABELS)[0]["agreement"] is None


def test_summary_and_table() -> None:
    found = summarise(ROWS, TIMING, KINDS, LABELS, 0.95, drawn=True)
    together = summarise(ROWS, TIMING, KINDS, LABELS, 0.95)  # they are of one prompt
    assert found.gain["prompts"] == 4 and together.gain["prompts"] == 1
    for one, other in ((found.guided, together.guided), (found.directions["guided"], together.directions["guided"])):
        assert one["accuracy"] == other["accuracy"] and one["ci95"][0] > other["ci95"][0]
    assert "McNemar p" in render_table(found) and "of 1 prompts: p = 1" in render_table(together)
    assert found.unguided["accuracy"] == 0.5 and found.guided["accuracy"] == 0.75
    assert found.gain["value"] == 0.25 and found.gain["groups"]["motion"]["won"] == 1
    assert found.unguided["groups"]["spatial"]["accuracy"] is None
    assert found.time_ratio == 1.25
    text = render_table(found)
    assert "bit-identical" in text and "n = 2 (equal time)" in text and "1.25" in text
    bare = [replace(row, zero_step=None, candidates=None) for row in ROWS]
    found = summarise(bare, TIMING, KINDS, LABELS, 0.95)
    assert found.controls is None and found.best_of_n == [] and found.best_of_n_equal_time is None
    assert "control" not in render_table(found)


# Whole runs


def test_plain_run_is_the_samplers_bit_for_bit(sampler: GuidedSampler) -> None:
    composition = parse("a red circle moving left", LABELS)
    plain = run_plain(sampler, [composition], [5], tiny.STEPS)
    reference = sampler([composition.prompt], [5], guided=False, steps=tiny.STEPS)
    assert torch.equal(plain.video_BCFHW, reference.video_BCFHW)
    in_use, schedule = sampler.guided_steps(tiny.STEPS), sampler.generator.schedule(tiny.STEPS, sampler.size)
    reachable = reachable_guided_steps(sampler, in_use, schedule)
    assert list(reachable.items()) == [(found.guided_step, found.step) for found in plain.early]
    assert list(reachable) == [0, 1]
    assert 0 < plain.early_seconds < plain.seconds
    first, second = early_verdicts(sampler, [composition], plain.early)
    assert (first.guided_step, first.step, second.guided_step, second.step) == (0, 0, 1, 1)
    assert float(first.log_probability_RY.exp().sum()) == pytest.approx(1, abs=1e-5)
    guided = sampler([composition.prompt], [5], steps=tiny.STEPS)
    target = sampler.classifier.labels.index("left")
    # The same latents, read by the guide and by the evaluation.
    assert float(guided.probabilities[0][0][0]) == pytest.approx(
        float(first.log_probability_RY[0, target].exp()), abs=1e-5
    )


def test_untrained_classifier_is_fresh_and_repeatable(sampler: GuidedSampler) -> None:
    before = torch.get_rng_state()
    first, second = (untrained(sampler.classifier, 0).head.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], value) for name, value in sampler.classifier.head.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_schema(result: dict[str, Any]) -> None:
    for side in ("unguided", "guided"):
        assert 0 <= result[side]["accuracy"] <= 1 and len(result[side]["ci95"]) == 2
        assert set(result[side]["groups"]) == set(KINDS)
        assert set(result["quality"][side]) == {"entities_right", "smoothness", "flicker", "static_share"}
    assert set(result["gain"]) >= {"value", "ci95", "p", "won", "lost", "groups"}
    assert result["time_ratio"] > 0 and len(result["timing"]["ratio_per_batch"]) == 2
    assert [entry["n"] for entry in result["best_of_n"]] == [1, 2, 3, 4]
    assert "accuracy" in result["best_of_n_equal_time"]
    assert [entry["guided_step"] for entry in result["predictability"]] == [0, 1]
    assert result["settings"]["guiding"]["guided_steps"] == 4
    assert len(result["classifier"]["fingerprint"]) == len(result["generator"]["fingerprint"]) == 16
    first, second = result["rows"]
    assert first["seed"] != second["seed"] and len(first["candidates"]) == 4 and "candidates" not in second
    assert {"prompt", "seed", "group", "labels", "unguided", "guided", "early"} <= set(second)
    assert result["controls"]["n"] == 1


def test_rows_come_back_from_their_file(folder: Path, result: dict[str, Any], tmp_path: Path) -> None:
    path = tiny.make_evaluation(folder)
    again = tmp_path / "again.json"
    write_evaluation(again, read_evaluation(path))
    assert again.read_bytes() == path.read_bytes()
    first = result["rows"][0]
    older, wrong, unknown = ({**first, **change} for change in ({"slot": 1}, {"seed": "one"}, {"guided": {}}))
    changes: list[tuple[str, dict[str, Any]]] = [
        ("'schema' is 2; expected 4", result | {"schema": 2}),
        ("'rows.seed'.*integer", result | {"rows": [wrong]}),
        ("unknown key 'rows.slot'", result | {"rows": [older]}),
        ("no 'rows.guided.right'", result | {"rows": [unknown]}),
        ("no 'timing'", {name: value for name, value in result.items() if name != "timing"}),
    ]
    for message, change in changes:
        again.write_text(json.dumps(change))
        with pytest.raises(UserError, match=f"again.json: {message}.*; run `python -m cvg.evaluate`"):
            read_evaluation(again)
    again.write_text("[]")
    with pytest.raises(UserError, match="again.json: a list, not an object"):
        read_evaluation(again)


def test_zero_step_is_bit_identical(result: dict[str, Any]) -> None:
    assert result["controls"]["zero_step"]["identical"]
    assert result["controls"]["zero_step"]["max_abs_difference"] == 0
    assert result["controls"]["zero_step"]["gain"]["value"] == 0


def test_guidance_moved_the_samples(result: dict[str, Any]) -> None:
    assert result["satisfied"]["probability_after"] > result["satisfied"]["probability_before"]


def test_same_seed_same_rows(folder: Path, result: dict[str, Any], tmp_path: Path) -> None:
    args = [
        f"--out={tmp_path / 'again.json'}",
        f"--classifier={folder / 'classifier'}",
        "--prompts=1",
        "--batch_size=1",
    ]
    again = run(main, "evaluate", args=[*args, f"--steps={tiny.STEPS}", "--controls=false"])
    row = to_dict(again.rows[0])
    assert {name: result["rows"][0][name] for name in row} == row and "zero_step" not in row
    assert again.controls is None


class OtherSuite(ShapesSuite):
    """The same prompts, another judge, and folders of its own."""

    name = "other"

    def __init__(
        self, labels: LabelSet | None = None, device: str = "cpu", settings: SuiteSettings | None = None
    ) -> None:
        super().__init__(labels, device, settings)
        self.judge = lambda videos, asked: [Reading(("left",)) for _ in videos]

    def video_name(self, case: Case) -> str:
        return f"{case.group}/{case.seeds[0]}.mp4"


def test_another_suite_with_its_own_judge_and_layout(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "other", f"{__name__}.OtherSuite")
    _, classifier = tiny.make_both(folder)
    options = {"prompts": 2, "batch_size": 2, "steps": tiny.STEPS, "controls": False}
    out, videos = tmp_path / "out.json", tmp_path / "videos"
    found = main(suite="other", out=out, videos=videos, classifier=str(classifier), **options)
    assert [row.unguided.labels for row in found.rows] == [row.guided.labels for row in found.rows] == [["left"]] * 2
    assert [row.unguided.right for row in found.rows] == [row.labels == ["left"] for row in found.rows]
    for side in ("unguided", "guided"):
        for row in found.rows:
            assert read_video(videos / side / row.group / f"{row.seed}.mp4", 5, 48, 48).std() > 0


def test_prompts_of_another_label_set(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head made of text is asked for labels and wordings that it was not made for, and a linear one refuses."""
    labels = {"motion": {"entities": 1, "labels": {"up": ["rising"], "up left": ["rising to the left"]}}}
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(labels))
    pipeline, linear = tiny.make_both(folder)
    words = "an object another moving left right up down rising to the".split()
    vlm = tiny.make_vlm(tmp_path / "vlm", "xclip", words)
    head = {"name": "anchored", "rank": 4, "tied": True, "captions": list(CAPTIONS), "without": []}
    backbone = {"name": "none", "path": str(vlm)}
    tiny.make_classifier(load_generator(str(pipeline)), tmp_path / "anchored", head=head, backbone=backbone)
    options = {"prompts": 2, "steps": tiny.STEPS, "controls": False, "labels": tmp_path / "labels.yaml"}
    found = main(out=tmp_path / "out.json", classifier=str(tmp_path / "anchored"), **options)
    assert sorted(row.labels[0] for row in found.rows) == ["up", "up left"]
    assert all("rising" in row.prompt for row in found.rows) and set(found.guided["groups"]) == {"motion"}
    assert "rising" in report.main(tmp_path / "out.json", tmp_path / "report.html", maps=1).read_text()
    with pytest.raises(UserError, match="'up': the classifier knows .*linear head"):
        main(out=tmp_path / "out.json", classifier=str(linear), **options)


@pytest.mark.parametrize("option", ["--prompts=0", "--guiding.guided_steps=0", "--steps=1", "--classifier=/nowhere"])
def test_bad_options_are_one_message(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, classifier = tiny.make_both(folder)
    with pytest.raises(SystemExit) as error:
        run(main, "evaluate", args=[f"--classifier={classifier}", f"--out={tmp_path / 'x.json'}", option])
    assert error.value.code == 2
    message = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(message) == 1
    assert not (tmp_path / "x.json").exists()


# A run that was stopped


def untimed(path: Path) -> Any:
    """The evaluation without what the clock says."""
    found = json.loads(path.read_text())
    for name in ("time_ratio", "timing", "best_of_n", "best_of_n_equal_time"):
        found.pop(name)
    return found


def test_a_run_that_was_stopped_goes_on_and_says_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, classifier = tiny.make_both(folder)
    options: dict[str, Any] = {"classifier": str(classifier), "steps": tiny.STEPS, "batch_size": 1, "prompts": 3}
    options |= {"controls": False, "videos": tmp_path / "videos"}
    main(out=tmp_path / "whole.json", **options)
    videos = {path: path.read_bytes() for path in (tmp_path / "videos").rglob("*.mp4")}
    begun: list[int] = []
    batch = Runner.batch

    def stops(self: Runner, cases: Any, controls: bool, guided_first: bool) -> list[Row]:
        begun.append(cases[0].seeds[0])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return batch(self, cases, controls, guided_first)

    monkeypatch.setattr(Runner, "batch", stops)
    out, rows = tmp_path / "a.json", tmp_path / "a.json.rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        main(out=out, **options)
    assert not out.exists() and len(rows.read_text().splitlines()) == 3
    with pytest.raises(UserError, match=r"a run that was stopped, with other settings \(settings, the prompts\)"):
        main(out=out, **{**options, "seed": 5})
    with pytest.raises(UserError, match=r"other settings \(controlled\)"):
        main(out=out, **{**options, "controls": True})
    with rows.open("a") as file:
        file.write('{"rows": [')  # it was being written
    begun += [0]
    capsys.readouterr()
    main(out=out, **options)
    assert "2 of 3 prompts are in" in capsys.readouterr().out
    assert len(begun) == 5 and not rows.exists() and untimed(out) == untimed(tmp_path / "whole.json")
    assert videos == {path: path.read_bytes() for path in videos}
    for damaged in ("", "[]\n", "{\n"):
        rows.write_text(damaged)
        with pytest.raises(UserError, match="delete the file to begin anew"):
            main(out=out, **options)


def test_the_bar_counts_the_sampler_s_steps(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []
    sampled = GuidedSampler.__call__

    def call(self: GuidedSampler, *args: Any, **options: Any) -> Any:
        made.append(options["steps"])
        return sampled(self, *args, **options)

    monkeypatch.setattr(GuidedSampler, "__call__", call)
    _, classifier = tiny.make_both(folder)
    main(
        out=tmp_path / "a.json",
        prompts=1,
        classifier=str(classifier),
        steps=tiny.STEPS,
        batch_size=1,
        control_prompts=1,
    )
    assert f"{sum(made)}/{sum(made)}" in capsys.readouterr().err


def test_a_second_run_of_one_file_is_refused_at_once(tmp_path: Path, folder: Path) -> None:
    _, classifier = tiny.make_both(folder)
    with alone(tmp_path, "a.json"), pytest.raises(UserError, match=r"a\.json: another process is writing there"):
        main(out=tmp_path / "a.json", classifier=str(classifier), steps=tiny.STEPS, prompts=1)
    assert not list(tmp_path.iterdir())


def test_rules_are_evaluated_like_a_classifier(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, _ = tiny.make_both(folder)
    prompts, out = tmp_path / "prompts.txt", tmp_path / "rules.json"
    prompts.write_text("a red circle moving left in front of a blue square\na red circle behind a blue square\n")
    ruled: dict[str, Any] = {"suite": "prompts", "labels": "shapes", "classifier": "rules", "generator": str(pipeline)}
    asking = SuiteSettings(prompts_file=prompts, judge="shapes")
    found = main(**ruled, size=(13, 64, 64), steps=12, out=out, batch_size=1, asking=asking)
    assert found is not None and [row.labels for row in found.rows] == [["left"]]
    assert found.rows[0].unknown == ["in front of"] and found.plain["unknown"] == {"in front of": 1}
    assert found.plain_rows[0].why == "the classifier does not know behind"
    assert found.controls is not None and found.controls["zero_step"]["identical"]
    assert found.controls["untrained"] is None and found.rows[0].untrained is None
    assert found.rows[0].wrong_target is not None and found.rows[0].wrong_target.target[0] in ("right", "up", "down")
    assert len(found.rows[0].candidates or []) == 4 and found.classifier["name"] == "rules"
    said = capsys.readouterr().out
    assert "untrained classifier" in said and "none: rules have no weights" in said
    assert "1 are guided and judged in part: not by relations unknown to what guides (in front of: 1)" in said
    page = report.main(out, tmp_path / "rules.html", maps=1)
    assert "none: rules have no weights" in page.read_text()
    with pytest.raises(UserError, match="give generator and size"):
        main(out=tmp_path / "other.json", **ruled | {"generator": None})


def test_a_classifier_is_evaluated_at_another_size(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, classifier = tiny.make_both(folder)
    options: dict[str, Any] = {"classifier": str(classifier), "steps": tiny.STEPS, "batch_size": 1, "prompts": 1}
    options |= {"size": (17, 64, 64), "controls": False, "videos": tmp_path / "videos"}
    found = main(out=tmp_path / "longer.json", **options)
    assert found is not None and found.settings["size"] == [17, 64, 64]
    assert (
        "size [17, 64, 64]: the classifier was trained on frames, rows, columns [5, 48, 48]" in capsys.readouterr().err
    )
    (video,) = (tmp_path / "videos" / "guided").rglob("*.mp4")
    assert read_video(video, 17, 64, 64).std() > 0
    assert "<img" in report.main(tmp_path / "longer.json", tmp_path / "longer.html", maps=1).read_text()
    with pytest.raises(UserError, match=r"size \[17, 64, 64\]: the classifier was trained on"):
        main(out=tmp_path / "strict.json", strict=True, **options | {"videos": None})


def test_words_that_the_generator_has_never_seen_are_warned_of(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Turquoise(OtherSuite):
        def cases(self, count: int | None, seed: int) -> list[Case]:
            composition = parse(f"a {words} moving left", LABELS)
            return [Case(composition.prompt, composition, "motion", (seed,) * 4)]

    monkeypatch.setattr(sys.modules[__name__], "OtherSuite", Turquoise)
    monkeypatch.setitem(SUITES, "other", f"{__name__}.OtherSuite")
    _, classifier = tiny.make_both(folder)
    options: dict[str, Any] = {"classifier": str(classifier), "steps": tiny.STEPS, "prompts": 1, "controls": False}
    words = "turquoise circle"
    main(suite="other", out=tmp_path / "a.json", **options)
    assert "warning: the generator" in (told := capsys.readouterr().err) and "has never seen 'turquoise'" in told
    trained = CompositionClassifier.from_pretrained(classifier)
    trained.config = replace(trained.config, seen={"up": 7})
    trained.save_pretrained(tmp_path / "classifier")
    main(suite="other", out=tmp_path / "seen.json", **options | {"classifier": str(tmp_path / "classifier")})
    assert "has never seen the label" not in told
    assert "warning: the classifier has never seen the label 'left'" in capsys.readouterr().err
    words = "turquoise cat"
    with pytest.raises(UserError, match="has never seen the entity 'turquoise cat'"):
        main(suite="other", out=tmp_path / "b.json", **options)


def test_a_generator_that_is_loaded_otherwise_is_warned_of_or_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, classifier = tiny.make_both(folder)
    said = ["--classifier", str(classifier), "--steps", "3", "--prompts", "1", "--controls", "false"]
    said += ["--out", str(tmp_path / "a.json"), "--loading.flow_shift", "2.5"]
    run(main, "cvg evaluate", args=said)
    told = capsys.readouterr().err
    assert "warning: the classifier was trained on this generator, but not as it is loaded now: scheduler" in told
    assert "with shift 2.5 instead of" in told
    monkeypatch.setattr(Comparison, "run", lambda *_: pytest.fail("began"))
    with pytest.raises(SystemExit):
        run(main, "cvg evaluate", args=[*said, "--strict", "true"], remedies=REMEDIES)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the classifier was trained on this") and line.endswith("--strict it is a warning")
