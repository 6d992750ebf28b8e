"""What is measured: a generator, a classifier of its maps, prompts and a size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.architecture import Architecture, Cfg, build
from cvg.classifier import ClassifierConfig, CompositionClassifier
from cvg.common.sizes import Size
from cvg.composition import Composition, LabelSet, parse
from cvg.generators import Dtype, Generator, Loading, load_generator

LABELS = LabelSet.load("shapes")
PROMPT = "a red circle to the left of a blue square"
SIGMAS = 4
"""Guided steps that the random classifiers know, as the shipped one does."""


@dataclass
class Case:
    """One generator with a classifier, one prompt repeated, a size and a number of denoising steps.

    Attributes:
        name: of the generator or architecture.
        generator: its adapter.
        classifier: reads its maps.
        compositions: the prompts.
        size: of the videos.
        cfg: see :data:`benchmarks.architecture.Cfg`.
        steps: denoising steps of one video.
        shipped: whether the weights are real, so that whole videos can be sampled.
    """

    name: str
    generator: Generator
    classifier: CompositionClassifier
    compositions: list[Composition]
    size: Size
    cfg: Cfg
    steps: int
    shipped: bool

    def __post_init__(self) -> None:
        self.conditioning = self.generator.encode(self.compositions)
        seeds = [torch.Generator().manual_seed(seed) for seed in range(len(self.compositions))]
        self.latents = self.generator.initial_latents(seeds, self.size).to(self.generator.device)
        self.timestep = self.generator.schedule(self.steps, self.size).timesteps[0]

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.generator.device

    @property
    def layers(self) -> list[int]:
        """Tapped layers."""
        return self.classifier.config.layers

    @property
    def reach(self) -> float:
        """Share of the blocks that a guided pass runs: up to the last tapped one."""
        return (self.layers[-1] + 1) / len(self.generator.blocks)

    @property
    def forwards(self) -> int:
        """Forward passes of one video in a denoising step."""
        return 1 if self.cfg == "none" else 2

    def denoise(self) -> Tensor:
        """The network's part of one denoising step with classifier-free guidance, as the pipeline does it."""
        with torch.no_grad():
            if self.cfg == "batch":
                both = self.conditioning.rows([*range(len(self.latents))] * 2)
                return self.generator.predict(torch.cat([self.latents] * 2), self.timestep, both.states)
            for _ in range(self.forwards - 1):
                self.forward()
            return self.forward()

    @torch.no_grad()
    def forward(self) -> Tensor:
        """One forward pass."""
        return self.generator.predict(self.latents, self.timestep, self.conditioning.states)

    def settings(self) -> dict[str, Any]:
        """What was measured."""
        grid, device = self.generator.token_grid(self.latents), self.device
        return {
            "name": self.name,
            "class": type(self.generator.pipeline).__name__,
            "parameters": sum(p.numel() for p in self.generator.network.parameters()),
            "blocks": len(self.generator.blocks),
            "heads": self.generator.num_heads,
            "tapped_layers": self.layers,
            "tapped_heads": len(self.classifier.config.heads),
            "size": list(self.size),
            "tokens": math.prod(grid),
            "grid": list(grid),
            "text_keys": self.conditioning.columns_BTE.shape[1],
            "batch": len(self.compositions),
            "steps": self.steps,
            "classifier_free_guidance": self.cfg,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}",
            "dtype": str(self.generator.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "weights": "shipped" if self.shipped else "random",
        }


@contextmanager
def checkpointed(generator: Generator) -> Iterator[None]:
    """Within it gradients recompute the blocks."""
    before, generator.checkpointing = generator.checkpointing, True
    try:
        yield
    finally:
        generator.checkpointing = before


def default_layers(depth: int) -> list[int]:
    """Every third layer of the first two thirds: there is no trained classifier to name the layers."""
    return list(range(0, max(1, round(2 * depth / 3)), 3))


def default_heads(heads: int) -> list[int]:
    """All up to sixteen, else at most fourteen, evenly spaced: as in data_prep/configs."""
    return list(range(0, heads, 1 if heads <= 16 else math.ceil(heads / 14)))


def random_classifier(generator: Generator, size: Size, steps: int, layers: list[int]) -> CompositionClassifier:
    """A classifier of the shipped form (X-CLIP, the weighted mean, a linear head) at a generator's grid, untrained."""
    generator.check_layers(layers)
    grid = list(generator.token_grid(generator.initial_latents([torch.Generator()], size)))
    shipped = CompositionClassifier.from_pretrained("shapes-classifier").config
    config = ClassifierConfig(
        labels=LABELS.to_dict(),
        generator=generator.identity(),
        layers=layers,
        heads=default_heads(generator.num_heads),
        sigmas=[float(sigma) for sigma in generator.schedule(steps, size).levels[:SIGMAS]],
        grid=grid,
        token_grid=grid,
        slots=shipped.slots,
        volume_grid=grid,
        backbone=shipped.backbone,
        aggregator=shipped.aggregator,
        noise=shipped.noise,
    )
    torch.manual_seed(1)
    classifier = CompositionClassifier(config)
    for parameter in classifier.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return classifier.eval().requires_grad_(False).to(generator.device)


def shipped_case(batch: int, steps: int, device: str, dtype: Dtype) -> Case:
    """The shipped generator and classifier."""
    generator = load_generator("shapes-wan", Loading(device, dtype))
    classifier = CompositionClassifier.from_pretrained("shapes-classifier").requires_grad_(False).to(device)
    size = generator.pixel_size(classifier.config.token_grid)
    compositions = [parse(PROMPT, LABELS)] * batch
    return Case("shapes-wan", generator, classifier, compositions, size, "calls", steps, shipped=True)


def random_case(
    architecture: Architecture,
    layers: Sequence[int] | None,
    batch: int,
    steps: int,
    device: str,
    dtype: str,
    within: AbstractContextManager[Any] | None = None,
    changed: Callable[[Any], None] | None = None,
) -> Case:
    """A random model of an architecture, with a random classifier of the given layers (``default_layers``)."""
    generator = build(architecture, device, dtype, within, changed)
    tapped = list(layers) if layers is not None else default_layers(len(generator.blocks))
    classifier = random_classifier(generator, architecture.size, steps, tapped)
    compositions, size = [parse(PROMPT, LABELS)] * batch, architecture.size
    name, cfg = architecture.name, architecture.guidance
    return Case(name, generator, classifier, compositions, size, cfg, steps, shipped=False)
