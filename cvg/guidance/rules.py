"""Rules in the classifier's place: formulas on entity maps that need no training, so they guide any generator.

They are also the plainest thing that a trained classifier must be better than.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvg.classifier import CompositionClassifier
from cvg.classifier.config import SamplingSettings
from cvg.common.errors import SettingsError
from cvg.common.sizes import Grid, Size
from cvg.composition import LabelSet, RelationBatch
from cvg.generators import Generator, Loading, load_generator
from cvg.generators.image_to_video import ImageToVideo
from cvg.generators.loading import check_image
from cvg.grounding.slots import slot_maps
from cvg.guidance.config import GUIDED_STEPS, RULES, GuidanceConfig
from cvg.guidance.formulas import gathered, seen
from cvg.guidance.places import place
from cvg.guidance.stated import attributes_alone, formula_of, stated, unstated
from cvg.guidance.verdict import Verdict

TEMPERATURE = 0.05
"""Of the softmax over a group's scores; lengths are in frame sides."""
SHARE = 2 / 3
"""Of the layers that are tapped where none are named: early and middle ones say where things will be."""
GENTLE = 0.5
"""Length of the edits of a sample that is asked for attributes alone, in those of others; found by trial."""
SCHEDULE, LEVELS = 12, (1, 2, 3, 4, 5, 6)
"""Noise levels where none are named: those of these steps of a schedule of so many, as classifiers are trained on."""
LATER = 2
"""How many of them later than others a sample is guided that is asked for attributes alone."""


@dataclass(frozen=True)
class RulesConfig:
    """What the rules read, in the words of a classifier's config.

    Attributes:
        layers: tapped layers.
        heads: tapped heads.
        sigmas: noise levels T, noisiest first; not all are guided at (:func:`cvg.guidance.turns.turns`).
        token_grid: latent tokens of the generator's own size.
        sampling: what rules prefer: attributes that entities are bound to, alone, are guided :data:`LATER`.
        generator: None: any.
        levels: None: of any steps.
        noise: never added to what they read.
    """

    layers: list[int]
    heads: list[int]
    sigmas: list[float]
    token_grid: Grid
    sampling: SamplingSettings
    generator: None = None
    levels: None = None
    noise: float = 0.0


class Rules(nn.Module):
    """The labels of a set that have a formula, told apart by geometry.

    Args:
        labels: the label set; those that :func:`stated` leaves out are never asked for.
        config: what is read.
    """

    def __init__(self, labels: LabelSet, config: RulesConfig) -> None:
        super().__init__()
        self.labels, self.config = labels, config

    @classmethod
    def of(
        cls,
        generator: Generator,
        labels: LabelSet,
        size: Size,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> Rules:
        """Rules for a generator.

        Args:
            generator: whose maps are read.
            labels: the label set.
            size: of the videos, unless sampling is told another.
            layers: tapped layers; the first two thirds when None.
            heads: tapped heads; all when None.
            sigmas: noise levels at which steps are guided; six early ones of its schedule when None, or the first
                four of steps that are stated.

        Raises:
            SettingsError: layers or heads that the generator does not have, or noise levels that are none.
        """
        generator.check_size(size)
        count = generator.num_heads
        chosen = list(range(math.ceil(SHARE * len(generator.blocks)))) if layers is None else list(layers)
        generator.check_layers(chosen)
        if heads is not None and (not heads or any(head not in range(count) for head in heads)):
            known = f"numbers from 0 to {count - 1}, those of {generator.name}"
            raise SettingsError(f"heads {list(heads)}: expected {known}")
        if sigmas is None:
            stated = generator.fixed_steps
            levels = generator.schedule(stated or SCHEDULE, size).levels[:-1]
            sigmas = [float(levels[step]) for step in (range(stated)[:GUIDED_STEPS] if stated else LEVELS)]
        latents = generator.initial_latents([torch.Generator().manual_seed(0)], size)
        grid = generator.token_grid(latents)
        later = {label.group: LATER for label in labels.labels if label.bound}
        read = chosen, list(range(count) if heads is None else heads), list(sigmas)
        return cls(labels, RulesConfig(*read, grid, SamplingSettings(later=later)))

    def identity(self, name: str) -> dict[str, Any]:
        """What guided, for the record; as a classifier's."""
        config = self.config
        read = {"layers": config.layers, "heads": config.heads, "sigmas": config.sigmas}
        return {"name": name, **read, "temperature": TEMPERATURE, "labels": stated(self.labels)}


def load_classifier(name: str, labels: LabelSet | None) -> CompositionClassifier | None:
    """The classifier that is to guide; None where rules are.

    Args:
        name: exported classifier folder, hub id, or shipped name; or "rules".
        labels: label set that it is to tell apart instead of its own, if any.
    """
    if name == RULES:
        return None
    model = CompositionClassifier.from_pretrained(name)
    return model.with_labels(labels) if labels and labels != model.labels else model


def with_generator(
    trained: CompositionClassifier | None,
    labels: LabelSet,
    generator: str | None,
    size: Size | None,
    loading: Loading,
    guiding: GuidanceConfig | None = None,
    image: bool = False,
    last_image: bool = False,
) -> tuple[Generator, CompositionClassifier | Rules]:
    """A generator, and what reads its maps: a classifier, else rules.

    Args:
        trained: the classifier; None for rules.
        labels: of the rules.
        generator: pipeline folder, hub id, or shipped name; the one that the classifier was trained on when None.
        size: of the rules' videos.
        loading: where and how the generator is computed.
        guiding: layers and heads of the rules; those that :meth:`Rules.of` takes when None.
        image: whether it is to make videos of images (:attr:`ImageToVideo.image`).
        last_image: whether some are to end with one too.

    Raises:
        SettingsError: rules without generator or size, or with layers, heads or a size that the generator does not
            have; a classifier with layers or heads; an image for a generator that takes none, or none for one that
            does.
        ModelError: the generator cannot be loaded.
    """
    guiding = guiding or GuidanceConfig()
    if trained is not None:
        if guiding.layers is not None or guiding.heads is not None:
            raise SettingsError(
                f"guidance layers {guiding.layers}, heads {guiding.heads}: a classifier reads those that it was "
                "trained on; leave them out, or guide by rules"
            )
        return _loaded(generator or trained.config.generator["name"], loading, image, last_image), trained
    require_named(generator=generator, size=size)
    assert generator is not None and size is not None
    frozen = _loaded(generator, loading, image, last_image)
    return frozen, Rules.of(frozen, labels, Size(*size), guiding.layers, guiding.heads)


def _loaded(name: str, loading: Loading, image: bool, last_image: bool) -> Generator:
    check_image(name, image, last_image)
    generator = load_generator(name, loading)
    if last_image and isinstance(generator, ImageToVideo) and not generator.takes_last_image:
        raise SettingsError(f"last_image: {name} was made for the first frame alone; leave the last one out")
    return generator


def require_named(**named: object) -> None:
    """Raise SettingsError where what rules cannot do without, and a classifier brings along, is None."""
    if missing := [name for name, value in named.items() if value is None]:
        raise SettingsError(
            f"classifier rules: rules go with any generator and size, so they name none; give {' and '.join(missing)}"
        )


class StepRules:
    """The rules' verdicts on a batch of prompts; see :class:`cvg.guidance.verdict.StepClassifier`.

    They look at one step alone: what a sample was like before does not count.

    Args:
        labels: the label set.
        relations: of the batch.
    """

    def __init__(self, labels: LabelSet, relations: RelationBatch) -> None:
        self.labels, self.relations = labels, relations
        self.known = {labels.index(name) for name in stated(labels)}
        self.gentle = attributes_alone(labels, relations)

    def require_all(self) -> None:
        """Raise PromptError where a label is asked for that no formula states."""
        for target in sorted(set(self.relations.target_R)):
            if not self.knows(target):
                raise unstated(self.labels, self.labels.names[target])

    def knows(self, label: int) -> bool:
        """Whether rules can guide towards the label of this class index; see :func:`stated`."""
        return label in self.known

    def pace(self, sample: int) -> float:
        """Share of the usual length that a sample's edits have: :data:`GENTLE` where only attributes are asked for."""
        return GENTLE if sample in self.gentle else 1.0

    def __call__(self, maps_BLAEFHW: Tensor, samples: Sequence[int], guided_step: int) -> Verdict:
        """The verdict on some samples, differentiable in their maps; arguments as of ``StepClassifier``."""
        rows = self.relations.rows(samples)
        owners = [list(samples).index(self.relations.prompt_R[row]) for row in rows]
        place_B11EFHW = place(maps_BLAEFHW)[:, None, None]
        slots_RK = [self.relations.slots_RK[row] for row in rows]
        place_RKFHW = slot_maps(place_B11EFHW, owners, slots_RK)[:, 0, 0]
        log_probability_RY = (self._scores(place_RKFHW, rows) / TEMPERATURE).log_softmax(-1)
        log_probability_RY = self._bound(log_probability_RY, place_RKFHW, rows)
        targets = [self.relations.target_R[row] for row in rows]
        return Verdict(rows, log_probability_RY, log_probability_RY[range(len(rows)), targets], place_RKFHW)

    def _bound(self, log_probability_RY: Tensor, place_RKFHW: Tensor, rows: Sequence[int]) -> Tensor:
        """The same, with the attributes that entities are bound to: each has as much as its entity is in one place.

        Maps do not tell one attribute of a group from another, so the others share what is left.
        """
        target_R = [self.relations.target_R[row] for row in rows]
        mine = [i for i, target in enumerate(target_R) if self.labels.labels[target].bound]
        if not mine:
            return log_probability_RY
        log_target_R = gathered(seen(place_RKFHW[mine, 0]))
        updated_RY = log_probability_RY.clone()
        for i, log_target in zip(mine, log_target_R, strict=True):
            group = list(self.relations.group_R[rows[i]])
            left = torch.log1p(-log_target.detach().exp()) - math.log(len(group) - 1)
            updated_RY[i, group] = left
            updated_RY[i, target_R[i]] = log_target
        return updated_RY

    def _scores(self, place_RKFHW: Tensor, rows: Sequence[int]) -> Tensor:
        """Score of every label of each relation's group; minus infinity outside it, and where there is no formula.

        In groups without any formula all labels have the same score: minus infinity alone would make gradients NaN.
        """
        labels = self.labels.labels
        score_RY = place_RKFHW.new_full((len(rows), len(labels)), -math.inf)
        for group in sorted({self.relations.group_R[row] for row in rows}):
            mine = [i for i, row in enumerate(rows) if self.relations.group_R[row] == group]
            entities = [seen(place_RKFHW[mine, slot]) for slot in range(labels[group[0]].entities)]
            formulas = {index: formula for index in group if (formula := formula_of(labels[index]))}
            scores = {index: formula(*entities) for index, formula in formulas.items()}
            for index, score_R in (scores or dict.fromkeys(group, score_RY.new_zeros(len(mine)))).items():
                found = torch.tensor(mine, device=score_RY.device), torch.tensor([index], device=score_RY.device)
                score_RY = score_RY.index_put(found, score_R)
        return score_RY
