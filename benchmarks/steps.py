"""Which steps are guided: the same ones for all samples, or those that each sample's own verdicts ask for.

python -m benchmarks.steps --prompts 96 --seed 4711
python -m benchmarks.steps --sure '[0.5, 0.7, 0.9]' --fixed '[]'
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.adaptive import AdaptiveSampler
from benchmarks.measure import clock
from benchmarks.rivals.__main__ import SHIPPED
from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import require_writable, write_json
from cvg.common.statistics import paired_shares, wilson
from cvg.common.versions import versions
from cvg.evaluation.suites import Case, load_suite, scores
from cvg.generators import Generator, Loading, load_generator
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.media.pixels import to_frames
from cvg.reporting.table import number

HEADER = ["", "right", "against {}", "entities", "guided steps", "passes with a gradient", "time"]


@dataclass
class Looks:
    """Counts what guidance asks of a generator; within ``with`` its :meth:`Generator.entity_maps` goes through it.

    Attributes:
        generator: the generator.
        steps: guided steps, summed over samples: denoising steps in which a sample's maps were read with a gradient.
        gradients: passes with a gradient, summed likewise: a step has several where it edits several times.
        plain: passes without one.
    """

    generator: Generator
    steps: int = 0
    gradients: int = 0
    plain: int = 0

    def __enter__(self) -> Looks:
        read, last = self.generator.entity_maps, [None]

        def counting(latents: Tensor, timestep: Any, *rest: Any, **named: Any) -> Tensor:
            if torch.is_grad_enabled():
                self.gradients += len(latents)
                # The first pass of a step has all of its samples.
                self.steps += len(latents) if last[0] is None or not torch.equal(last[0], timestep) else 0
                last[0] = timestep
            else:
                self.plain += len(latents)
            return read(latents, timestep, *rest, **named)

        self.generator.entity_maps = counting  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: Any) -> None:
        del self.generator.entity_maps  # the class's own again


def ways(
    generator: Generator, classifier: CompositionClassifier, fixed: Sequence[int], sure: Sequence[float], still: float
) -> dict[str, GuidedSampler | None]:
    """What is compared, by the names of rows: unguided (None), so many fixed steps, adaptive ones so sure.

    The classifier guides alone, and adaptive steps may be all of its.
    """
    plain = GuidanceConfig(guided_steps=len(classifier.config.sigmas), rules=0.0)
    found: dict[str, GuidedSampler | None] = {"unguided": None}
    for count in fixed:
        found[f"fixed {count}"] = GuidedSampler(generator, classifier, replace(plain, guided_steps=count))
    for bound in sure:
        found[f"adaptive {bound:g}"] = AdaptiveSampler(generator, classifier, plain, bound, still)
    return found


def rows_of(batches: Sequence[dict[str, Any]], names: Sequence[str], base: str) -> list[dict[str, Any]]:
    """Figures of each way over all batches.

    Args:
        batches: of each, by way: ``right`` and ``entities_right`` of every video, ``seconds``, and of :class:`Looks`
            ``steps`` and ``gradients``.
        names: of the ways; the first one's time is 1.
        base: the way that the others' videos are compared with, one by one.

    Returns:
        Per way ``name``, ``n``, ``right`` (a share) with ``ci95``, ``difference`` to the base with
        ``difference_ci95``, ``entities_right``, ``steps`` and ``gradients`` per video, and ``time``.
    """

    def joined(name: str, of: str) -> list[bool]:
        return [hit for batch in batches for hit in batch[name][of]]

    def total(name: str, of: str) -> float:
        return float(sum(batch[name][of] for batch in batches))

    rows, against = [], joined(base, "right")
    for name in names:
        right, entities = joined(name, "right"), joined(name, "entities_right")
        count = len(right)
        won = sum(mine and not theirs for mine, theirs in zip(right, against, strict=True))
        lost = sum(theirs and not mine for mine, theirs in zip(right, against, strict=True))
        rows.append(
            {
                "name": name,
                "n": count,
                "right": sum(right) / count,
                "ci95": list(wilson(sum(right), count)),
                "difference": (won - lost) / count,
                "difference_ci95": list(paired_shares(won, lost, count)),
                "entities_right": sum(entities) / count,
                "steps": total(name, "steps") / count,
                "gradients": total(name, "gradients") / count,
                "time": total(name, "seconds") / total(names[0], "seconds"),
            }
        )
    return rows


def markdown(generator: str, rows: Sequence[dict[str, Any]], base: str) -> str:
    """The table of one generator."""
    cells = [[head.format(base) for head in HEADER]]
    cells[0][0] = f"`{generator}`, {rows[0]['n']} prompts"
    for row in rows:
        low, high = row["ci95"]
        less, more = row["difference_ci95"]
        difference = f"{number(row['difference'], True)} ({number(less, True)} to {number(more, True)})"
        cells.append(
            [
                row["name"],
                f"{number(row['right'], digits=3)} ({number(low)} to {number(high)})",
                "" if row["name"] == base else difference,
                number(row["entities_right"]),
                *(number(row[of]) if row[of] else "" for of in ("steps", "gradients")),
                number(row["time"], digits=3),
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(HEADER), *lines[1:]])


def main(
    out: Path = Path("runs/steps.json"),
    generators: list[str] = list(SHIPPED),  # noqa: B006  (never changed)
    prompts: int = 96,
    seed: int = 0,
    fixed: list[int] = [2, 4],  # noqa: B006
    sure: list[float] = [0.6],  # noqa: B006
    still: float = 0.0,
    steps: int = 50,
    batch_size: int = 16,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Sample the same prompts from the same noise in every way, in turn, and compare accuracy and time.

    Time is a multiple of the unguided pipeline's: wall time on a GPU, processor time elsewhere.

    Args:
        out: JSON file, written again after every batch.
        generators: shipped generators, each with the classifier that ships for it.
        prompts: of the shapes world.
        seed: of prompts and initial noise.
        fixed: numbers of guided steps that are the same for all samples.
        sure: adaptive steps, a row for each bound.
        still: and their least gain from one guided step to the next.
        steps: denoising steps.
        batch_size: videos at a time.
        loading: where and how the generators are computed.
    """
    require(1, prompts=prompts, steps=steps, batch_size=batch_size)
    require(0, seed=seed)
    if not generators or (unknown := [name for name in generators if name not in SHIPPED]):
        raise SettingsError(f"generators {unknown if generators else []}: give some of {', '.join(SHIPPED)}")
    require_writable(out)
    suite = load_suite("shapes")
    cases = suite.cases(prompts, seed)
    settings = {"seed": seed, "still": still, "steps": steps, "batch_size": batch_size, **vars(loading)}
    record: dict[str, Any] = {"settings": settings | {"versions": versions()}, "generators": {}}
    for name in generators:
        generator = load_generator(name, loading)
        classifier = CompositionClassifier.from_pretrained(SHIPPED[name])
        compared, plain = ways(generator, classifier, fixed, sure, still), GuidedSampler(generator, classifier)
        names = list(compared)
        base = f"fixed {max(fixed)}" if fixed else names[-1]
        found: dict[str, Any] = record["generators"].setdefault(name, {"batches": []})
        _sampled(plain, cases[:1], False, steps)  # one-time costs
        for at in range(0, len(cases), batch_size):
            part = cases[at : at + batch_size]
            batch: dict[str, dict[str, Any]] = {}
            for way, sampler in compared.items():
                with Looks(generator) as looks:
                    began = clock(generator.device)
                    video_BCFHW = _sampled(sampler or plain, part, sampler is not None, steps)
                    seconds = clock(generator.device) - began
                judged = scores(suite, [to_frames(video) for video in video_BCFHW], [case.asked for case in part])
                batch[way] = {"seconds": seconds, "steps": looks.steps, "gradients": looks.gradients}
                batch[way] |= {of: [getattr(score, of) for score in judged] for of in ("right", "entities_right")}
                told = f"{name}: prompts from {at}: {way}: {sum(batch[way]['right'])} of {len(part)} right"
                print(f"{told}, {seconds:.0f} s", file=sys.stderr, flush=True)
            found["batches"].append(batch)
            found["rows"] = rows_of(found["batches"], names, base)
            write_json(out, record)
        print(f"\n{markdown(name, found['rows'], base)}\n", flush=True)
    print(f"wrote {out}")


def _sampled(sampler: GuidedSampler, cases: Sequence[Case], guided: bool, steps: int) -> Tensor:
    prompts, seeds = [case.prompt for case in cases], [case.seeds[0] for case in cases]
    return sampler(prompts, seeds, [case.asked for case in cases], guided, steps).video_BCFHW


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.steps")
