"""A judge that asks a dual encoder which of a group's rival prompts a video is most like."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from cvg.classifier.backbones import build
from cvg.classifier.backbones.dual import DualBackbone
from cvg.classifier.config import BackboneSettings
from cvg.common.errors import ModelError, SettingsError
from cvg.common.sizes import Grid
from cvg.common.typed import read
from cvg.composition import Composition, LabelSet, restated
from cvg.judging.base import Frames, Judge, Reading, checked_frames
from cvg.judging.frames import squares

FRAMES = 8
"""Frames shown to models that take any number."""
TOGETHER = 64
"""Up to so many combinations of labels, a prompt's relations are read together; beyond it one after the other."""
SHARPNESS = 30.0
"""What similarities are multiplied by before the softmax among rivals: released models learnt 15 to 100."""


class ContrastiveJudge(Judge):
    """Compares a video with the prompt and with the same prompt stating the rivals of its labels.

    It reads whatever has wordings, but such models know bags of words better than who is where: believe it no further
    than it was checked.

    Args:
        labels: the label set whose groups have the rivals; that of real scenes when None.
        device: torch device of the model.
        model: folder, Hub id or shipped name of a model with a text tower (CLIP, X-CLIP, SigLIP, SigLIP 2, VideoPrism).
        least: least probability of the most likely label among its rivals; below it, none can be told.

    Raises:
        ModelError: the model cannot be loaded, or has no text tower.
        SettingsError: ``least`` is no probability.
    """

    def __init__(
        self, labels: LabelSet | None = None, device: str = "cpu", model: str = "shapes-clip", least: float = 0.6
    ) -> None:
        if not 0 <= least <= 1:
            raise SettingsError(f"judge contrastive: least {least}: give a probability")
        self.labels, self.device, self.least = labels or LabelSet.load("world"), device, least
        backbone = build(
            read(BackboneSettings, {"name": "vlm", "path": model, "read": "joint"}, "judge contrastive"),
            1,
            Grid(FRAMES, 8, 8),
        )
        if not isinstance(backbone, DualBackbone):
            raise ModelError(f"judge contrastive: {model} has no text tower")
        self.backbone = backbone.to(device)
        self.texts: dict[str, torch.Tensor] = {}  # each is read once, though many videos are asked of it

    @torch.no_grad()
    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos.

        Raises:
            PromptError: a label that is not in the set, or whose wording in the prompt cannot be replaced; a prompt
                that is longer than the model reads.
            DataError: frames that cannot be read.
        """
        model = self.backbone
        pixels = squares([checked_frames(video) for video in videos], model.frames, model.size).to(self.device)
        normal = (pixels - model.mean_C[:, None, None]) / model.std_C[:, None, None]
        video_BE = torch.nn.functional.normalize(model.embed(normal).float(), dim=-1)
        rounds = [self._rivals(composition) for composition in asked]
        prompts = list(dict.fromkeys(prompt for each in rounds for rivals in each for prompt in rivals.values()))
        if new := [prompt for prompt in prompts if prompt not in self.texts]:
            self.texts |= dict(zip(new, model.text_features(new), strict=True))
        return [
            self._read(composition, [self._chances(video_E, rivals) for rivals in each])
            for video_E, composition, each in zip(video_BE, asked, rounds, strict=True)
        ]

    def _rivals(self, composition: Composition) -> list[dict[tuple[str, ...], str]]:
        """The prompts to compare, by their relations' labels; one comparison, or one per relation."""
        groups = [
            [label.name for label in self.labels.groups[self.labels[relation.label].group]]
            for relation in composition.relations
        ]
        names = [relation.label for relation in composition.relations]
        if math.prod(map(len, groups)) <= TOGETHER:
            choices = [list(itertools.product(*groups))]
        else:
            choices = [[(*names[:i], name, *names[i + 1 :]) for name in group] for i, group in enumerate(groups)]
        return [{each: restated(composition, each, self.labels).prompt for each in some} for some in choices]

    def _chances(self, video_E: torch.Tensor, rivals: dict[tuple[str, ...], str]) -> dict[tuple[str, ...], float]:
        similarity_N = torch.stack([self.texts[prompt] for prompt in rivals.values()]).float() @ video_E
        return dict(zip(rivals, (SHARPNESS * similarity_N).softmax(0).tolist(), strict=True))

    def _read(self, composition: Composition, rounds: list[dict[tuple[str, ...], float]]) -> Reading:
        labels: list[str | None] = []
        confidence = []
        for index in range(len(composition.relations)):
            chances: dict[str, float] = {}
            for names, chance in rounds[min(index, len(rounds) - 1)].items():
                chances[names[index]] = chances.get(names[index], 0.0) + chance
            best = max(chances, key=lambda name: chances[name])
            labels.append(best if chances[best] >= self.least else None)
            confidence.append(chances[best] if labels[-1] else 0.0)
        return Reading(tuple(labels), confidence=tuple(confidence))
