"""Guidance and its rivals, side by side.

python -m benchmarks.rivals --prompts 32 --seed 4711
python -m benchmarks.rivals --generators '[shapes-wan]' --classifiers '[runs/no-vlm]'
python -m benchmarks.rivals --generators '[shapes-wan-more]' --kinds '[motion, depth, interaction]'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.rivals.arena import Arena, empty
from benchmarks.rivals.attend_and_excite import attend_and_excite
from benchmarks.rivals.base import Ring, Rival
from benchmarks.rivals.flowmo import flowmo
from benchmarks.rivals.learn_to_steer import learn_to_steer
from benchmarks.rivals.ours import BestOf, Guided, Pruned, Unguided
from benchmarks.rivals.table import figures, markdown
from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import DataError, ModelError, SettingsError, require
from cvg.common.files import alone, atomic, read_json, require_writable, write_json
from cvg.common.fingerprint import same_generator
from cvg.common.typed import to_dict
from cvg.common.versions import versions
from cvg.evaluation.suites import CANDIDATES, Suite, SuiteSettings, load_suite
from cvg.generators import Loading, load_generator
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import Rules

SHIPPED = {
    "shapes-wan": "shapes-classifier",
    "shapes-cogvideox": "shapes-cogvideox-classifier",
    "shapes-wan-more": "shapes-wan-more-classifier",
}
"""Generator -> the classifier that ships for it."""
RULES_STEP_SIZES = (0.06, 0.1, 0.17)
SHORT = 12
"""Denoising steps of the videos whose peak memory is measured: the fewest that have the rules' noise levels apart."""
WHOLE = 2
"""Whole videos of each prompt for best-of-n: the least that is a choice."""


def rivals_on(ring: Ring, others: Sequence[tuple[str, CompositionClassifier]]) -> list[Rival]:
    """The rows of the table, in order.

    Args:
        ring: where they run.
        others: further classifiers of this generator, by the names of their rows.
    """
    rules = Rules.of(ring.generator, ring.classifier.labels, ring.size)
    ships = GuidanceConfig().preferred(ring.classifier.config.sampling)
    by_count = {count: GuidanceConfig(guided_steps=count, every_step=False, rules=0.0) for count in (4, 2)}
    return [
        Unguided("unguided", ring),
        Guided("classifier", ring, ring.classifier),
        *(
            Guided(f"classifier alone, {count} guided steps", ring, ring.classifier, config)
            for count, config in by_count.items()
            if config.preferred(ring.classifier.config.sampling) != ships
        ),
        Guided("rules", ring, rules, step_sizes=RULES_STEP_SIZES),
        *(Guided(name, ring, classifier) for name, classifier in others),
        BestOf(f"best of {WHOLE}, by the classifier", ring, WHOLE),
        Pruned(f"best of {CANDIDATES}, by the classifier, early", ring, CANDIDATES),
        attend_and_excite(ring),
        flowmo(ring),
        learn_to_steer(ring),
    ]


def main(
    out: Path = Path("runs/rivals"),
    generators: list[str] = ["shapes-wan", "shapes-cogvideox"],  # noqa: B006  (never changed)
    classifiers: list[str] = [],  # noqa: B006  (never changed)
    kinds: list[str] | None = None,
    prompts: int = 32,
    seed: int = 0,
    tune_prompts: int = 16,
    tune_seed: int = 1000,
    steps: int = 50,
    batch_size: int = 16,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Run all rivals on the same prompts and seeds, and write OUT/rivals.json and OUT/rivals.md.

    The step sizes of those that have none of their own are chosen first, on other prompts. Whatever is done stands in
    OUT/rivals.json at once; the same command, or one with more prompts, goes on from there. Time is a multiple of the
    unguided pipeline's in the same run: wall time on a GPU, processor time elsewhere.

    Args:
        out: folder to write.
        generators: shipped generators.
        classifiers: folders of further classifiers, each a row where its generator is among these.
        kinds: of prompts, in turn, whose labels each shipped classifier knows; the suite's usual ones when left out.
            Rules leave a prompt as it is where they have no formula for it.
        prompts: prompts that count, of the shapes world.
        seed: of these prompts and their initial noise.
        tune_prompts: prompts for choosing step sizes; fewer than there are kinds leave the last kinds without a say.
        tune_seed: of these; another than ``seed``.
        steps: denoising steps.
        batch_size: videos at a time.
        loading: where and how the generators are computed.
    """
    require(1, prompts=prompts, tune_prompts=tune_prompts, steps=steps, batch_size=batch_size)
    require(0, seed=seed, tune_seed=tune_seed)
    unknown = [name for name in generators if name not in SHIPPED]
    if unknown or not generators:
        raise SettingsError(f"generators {unknown}: give some of {', '.join(SHIPPED)}")
    if seed == tune_seed:
        raise SettingsError(
            f"tune_seed {tune_seed}: step sizes would be chosen on the prompts that count; give another"
        )
    given = [(Path(name).name, CompositionClassifier.from_pretrained(name)) for name in classifiers]
    path = out / "rivals.json"
    require_writable(path, out / "rivals.md")
    settings: dict[str, Any] = {"seed": seed, "tune_prompts": tune_prompts, "tune_seed": tune_seed, "steps": steps}
    settings["kinds"] = kinds
    # What a row's name stands for: a classifier that guides otherwise now is not to be mixed with what it was.
    shipped = {name: CompositionClassifier.from_pretrained(classifier) for name, classifier in SHIPPED.items()}
    suites = {name: _suite(shipped[name], kinds) for name in generators}
    settings["sampling"] = {name: to_dict(classifier.config.sampling) for name, classifier in shipped.items()}
    settings |= {"batch_size": batch_size, **vars(loading), "threads": torch.get_num_threads(), "versions": versions()}
    with alone(out):
        record = _begun(path, json.loads(json.dumps(settings)))
        rings = {name: _ring(name, shipped[name], steps, loading) for name in generators}
        if strange := [row for row, model in given if not any(_is_of(model, ring) for ring in rings.values())]:
            raise ModelError(f"classifier {strange[0]}: it is of none of the generators {', '.join(generators)}")
        for name, ring in rings.items():
            mine = [(row, model) for row, model in given if _is_of(model, ring)]
            _fight(name, ring, suites[name], mine, prompts, record, path)
            print(f"\n{markdown(name, record['generators'][name]['rows'])}\n", flush=True)
    print(f"wrote {path} and {out / 'rivals.md'}")


def _fight(
    name: str,
    ring: Ring,
    suite: Suite,
    others: Sequence[tuple[str, CompositionClassifier]],
    prompts: int,
    record: dict[str, Any],
    path: Path,
) -> None:
    """Run, choose and measure on one generator, each told of on stderr and kept at once."""
    settings = record["settings"]
    contenders, results = rivals_on(ring, others), record["generators"].setdefault(name, empty())

    def told(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    def keep() -> None:
        results["rows"] = figures(results, [rival.name for rival in contenders])
        write_json(path, record)
        tables = [markdown(each, of["rows"]) for each, of in record["generators"].items()]
        with atomic(path.with_suffix(".md")) as file:
            file.write_text("\n\n".join([*filter(None, tables), ""]), encoding="utf-8")

    cases = suite.cases(prompts, settings["seed"])
    arena = Arena(suite, ring, contenders, results, keep)
    contenders[0](cases[:1])  # one-time costs
    arena.run([rival for rival in contenders if not rival.step_sizes], cases, settings["batch_size"], told)
    apart = suite.cases(settings["tune_prompts"], settings["tune_seed"])
    for rival in contenders:
        if rival.step_sizes:
            arena.tune(rival, apart, settings["batch_size"], told)
            arena.run([rival], cases, settings["batch_size"], told)
    arena.measure(cases[0], rivals_on(replace(ring, steps=SHORT), others))


def _suite(classifier: CompositionClassifier, kinds: list[str] | None) -> Suite:
    """Prompts of the usual kinds, or of those that are asked for, in the classifier's labels."""
    return load_suite("shapes", None if kinds is None else classifier.labels, settings=SuiteSettings(kinds=kinds))


def _ring(name: str, classifier: CompositionClassifier, steps: int, loading: Loading) -> Ring:
    generator = load_generator(name, loading)
    classifier = classifier.eval().requires_grad_(False).to(generator.device)
    size = generator.pixel_size(classifier.config.token_grid)
    return Ring(generator, classifier, steps, classifier.config.sampling.guidance_scale, size)


def _is_of(classifier: CompositionClassifier, ring: Ring) -> bool:
    return same_generator(ring.generator.identity(), classifier.config.generator)


def _begun(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What is there already, of a run with the same settings; else a new record."""
    if not path.exists():
        return {"settings": settings, "generators": {}}
    record = read_json(path)
    known = record.get("settings") if isinstance(record, dict) else None
    if known != settings:
        known = known if isinstance(known, dict) else {}
        other = [name for name in {**settings, **known} if settings.get(name) != known.get(name)]
        raise DataError(f"{path}: of a run with other settings ({', '.join(other)}); choose another folder")
    return record


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.rivals")
