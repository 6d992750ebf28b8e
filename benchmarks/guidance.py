"""What guided sampling and capture cost, beside plain sampling and beside the plain way of guiding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.case import Case, checkpointed
from benchmarks.figures import Figure, spread
from benchmarks.measure import Work, in_turn, peak_bytes, weight_bytes
from benchmarks.plain import Materialised, plain
from cvg.generators import Generator
from cvg.grounding.base import Grounding
from cvg.grounding.cross_attention import CrossAttention
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler

GUIDED_STEPS = (2, 4)
TIME_GOALS = {(2, 1): "<= 1.10", (2, 3): "<= 1.25"}
"""(guided steps, iterations) -> time of guided sampling over that of plain sampling."""
MEMORY_GOAL, CAPTURE_GOAL, EXTRA_GOAL = "<= 1.25", "<= 5", ">= 10"
MIB = 2**20


def edits(case: Case) -> dict[str, Work]:
    """One guided denoising step each. The threshold is never reached: every iteration is paid for."""

    def edit(generator: Generator, iterations: int) -> Work:
        config = replace(GuidanceConfig(), iterations=iterations, repeat_below=1.0, threshold=None)
        guide = Guide(generator, case.classifier, case.compositions, config)
        return lambda: guide.edit(case.latents, case.timestep, 0)

    ours, three = edit(case.generator, 1), edit(case.generator, 3)

    def recomputing() -> None:
        with checkpointed(case.generator):
            ours()

    return {"guided": ours, "checkpointed": recomputing, "three": three, "plain way": edit(plain(case.generator), 1)}


def backbone(case: Case) -> Work:
    """What the classifier's backbone does in one edit: it looks at every noisy copy of a volume, with a gradient."""
    config = case.classifier.config
    count = len(case.compositions) * (max(1, GuidanceConfig().smoothing) if config.noise else 1)
    shape, device = (count, config.slots, *config.volume_grid), case.device
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    present = torch.ones(count, config.slots, dtype=torch.bool, device=device)
    return lambda: torch.autograd.grad(case.classifier.backbone(volume, present).sum(), volume)


def sampling(case: Case, rounds: int) -> list[Figure]:
    """Time of sampling with ``case.steps`` steps, guided over unguided, put together from one step of each kind.

    All steps of a kind cost the same, and the ratio of a round is of times taken one right after the other.
    """
    seconds = in_turn({"step": case.denoise, "backbone": backbone(case), **edits(case)}, rounds, case.device)
    figures = [spread("one denoising step", seconds["step"], unit="s")]

    def guided_over_unguided(name: str, guided: int) -> list[float] | None:
        if name not in seconds:
            return None
        both = zip(seconds[name], seconds["step"], strict=True)
        return [1 + guided * edit / (case.steps * step) for edit, step in both]

    if {"backbone", "guided"} <= seconds.keys():
        both = zip(seconds["backbone"], seconds["guided"], strict=True)
        figures.append(spread("backbone, share of an edit", [100 * own / edit for own, edit in both], unit="%"))
    kinds = {"guided": ("ours", 1), "three": ("ours", 3), "checkpointed": ("ours, checkpointed", 1)}
    for guided in GUIDED_STEPS:
        for name, (how, iterations) in {**kinds, "plain way": ("the plain way", 1)}.items():
            # Frozen weights: a backward pass costs about a forward pass. The plain way runs the whole network.
            reach = 1.0 if name == "plain way" else case.reach
            passes = 3 if name == "checkpointed" else 2
            what = setting(guided, iterations, how)
            figures.append(
                spread(
                    f"time, guided / unguided: {what}",
                    guided_over_unguided(name, guided),
                    floor=1 + guided * iterations * reach * passes / (case.forwards * case.steps),
                    goal=TIME_GOALS.get((guided, iterations), "") if name in ("guided", "three") else "",
                )
            )
    return figures


def setting(guided: int, iterations: int, how: str) -> str:
    """How guidance is done, in the names of figures."""
    return f"{guided} guided steps, {iterations} iteration{'s'[: iterations > 1]}, {how}"


def whole(case: Case, rounds: int) -> list[Figure]:
    """Time of whole videos through the pipeline, with the default guiding, which stops early, and with two steps."""
    prompts, seeds = [c.prompt for c in case.compositions], list(range(len(case.compositions)))
    samplers = {
        guided: GuidedSampler(case.generator, case.classifier, replace(GuidanceConfig(), guided_steps=guided))
        for guided in GUIDED_STEPS
    }
    work: dict[str, Work] = {
        f"{guided}": partial(sampler, prompts, seeds, steps=case.steps) for guided, sampler in samplers.items()
    }
    unguided = samplers[GUIDED_STEPS[0]]
    work["unguided"] = lambda: unguided(prompts, seeds, guided=False, steps=case.steps)
    seconds = in_turn(work, rounds, case.device, warm_up=False)
    return [
        spread(
            f"time of whole videos, guided / unguided: {guided} guided steps, default guiding",
            [a / b for a, b in zip(seconds[f"{guided}"], seconds["unguided"], strict=True)],
        )
        for guided in GUIDED_STEPS
    ]


def gradient(case: Case, generator: Generator) -> Tensor:
    """Of the loss that guidance follows, at the first guided step, with respect to the latents."""
    guide = Guide(generator, case.classifier, case.compositions, GuidanceConfig())
    z = case.latents.detach().requires_grad_()
    # A copy, for hooks that count arithmetic: a module whose input is a leaf of the graph breaks them.
    samples = range(len(z))
    maps = guide.maps(z.clone(), case.timestep, samples, 0)
    loss = guide.loss(maps, guide.classify(maps.of(guide.read), samples, 0), 0)
    (found,) = torch.autograd.grad(loss, z)
    return found


NAMES = {"guided": "ours", "checkpointed": "ours, checkpointed", "plain way": "the plain way"}


@dataclass(frozen=True)
class Peaks:
    """Bytes that sampling holds at most.

    Attributes:
        network: weights of the transformer.
        classifier: weights of the classifier, its frozen model included.
        step: what a plain denoising step takes beside weights.
        guided: what a guided one takes, by name; None where a GPU has too little.
    """

    network: int
    classifier: int
    step: int
    guided: dict[str, int | None]


def peaks(case: Case, work: Mapping[str, Work]) -> Peaks:
    """Measure the peaks.

    Args:
        case: what to measure.
        work: guided steps by name, as :func:`edits` gives them.
    """
    tower = case.classifier.backbone.tower
    classifier = weight_bytes(case.classifier, *([] if tower is None else [tower]))
    step = peak_bytes(case.denoise, case.device)
    assert step is not None, "not even plain sampling fits into memory"
    guided = {name: peak_bytes(work[name], case.device) for name in NAMES}
    return Peaks(weight_bytes(case.generator.network), classifier, step, guided)


def memory(found: Peaks) -> list[Figure]:
    """Peak memory of a guided step over that of a plain one, weights included."""
    plain_bytes = found.network + found.step
    figures = [Figure("peak memory of plain sampling", plain_bytes / MIB, "MiB")]
    for name, how in NAMES.items():
        peak = found.guided[name]
        value = None if peak is None else (found.network + found.classifier + max(peak, found.step)) / plain_bytes
        goal = "" if name == "plain way" else MEMORY_GOAL
        figures.append(Figure(f"peak memory, guided / unguided: {how}", value, goal=goal))
    return figures


def captures(case: Case) -> dict[str, Work]:
    """A forward pass: as it is, recording maps fused, and recording them off materialised matrices."""

    @torch.no_grad()
    def capturing(grounding: type[Grounding]) -> Tensor:
        generator, heads = case.generator, case.classifier.config.heads
        sites = generator.sites(case.latents, case.conditioning, case.layers, heads)
        reading = grounding(replace(sites, exit_before=None))
        with reading.recording():
            case.forward()
        return generator.maps_on_grid(reading, case.layers, generator.token_grid(case.latents))

    return {
        "forward": case.forward,
        "ours": lambda: capturing(CrossAttention),
        "materialised": lambda: capturing(Materialised),
    }


def capture_time(case: Case, rounds: int) -> list[Figure]:
    """What recording the maps of a forward pass adds to its time, fused and materialised."""
    seconds = in_turn(captures(case), 2 * rounds, case.device)

    def added(name: str) -> list[float] | None:
        if name not in seconds:
            return None
        return [100 * (a / b - 1) for a, b in zip(seconds[name], seconds["forward"], strict=True)]

    return [
        spread("one forward pass", seconds["forward"], unit="s"),
        spread("capture, time added to a forward pass", added("ours"), unit="%", goal=CAPTURE_GOAL),
        spread("materialising, time added to a forward pass", added("materialised"), unit="%"),
    ]


def capture_memory(case: Case) -> list[Figure]:
    """What recording the maps of a forward pass adds to its memory, fused and materialised."""
    work = captures(case)
    peaks = {name: peak_bytes(function, case.device) for name, function in work.items()}
    base, ours, matrices = peaks["forward"], peaks["ours"], peaks["materialised"]
    assert base is not None
    # Not less than the maps themselves, even where the peak lies elsewhere.
    extra = None if ours is None else max(ours - base, work["ours"]().nbytes)
    larger = None if matrices is None else matrices - base
    return [
        Figure("capture, memory added to a forward pass", None if extra is None else extra / MIB, "MiB"),
        Figure("materialising, memory added to a forward pass", None if larger is None else larger / MIB, "MiB"),
        Figure(
            "memory added, materialising / capture",
            None if larger is None or extra is None else larger / extra,
            goal=EXTRA_GOAL,
        ),
    ]
