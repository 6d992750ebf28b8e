"""What a classifier is, except its weights: its config.json."""

from __future__ import annotations

from dataclasses import field
from math import prod
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from cvg.common.errors import ModelError, UserError
from cvg.common.files import MOST_CONFIG, read_json
from cvg.common.typed import MOST, Identity, Indices, LatentGrid, Levels, Licences, OpenRecord, read, record, to_dict
from cvg.composition.labels import SLOTS, LabelSet

SCHEMA: Final = 1
_MOST_VALUES = 1 << 27
_BACKBONE = "none, convolution, or vlm with a path (a model's folder or Hub id)"

Captions = Annotated[list[str], Field(min_length=SLOTS, max_length=SLOTS, description="a template for each slot count")]
Amount = Annotated[StrictFloat | None, Field(ge=0, allow_inf_nan=False, description="a number of at least 0")]
Share = Annotated[
    StrictFloat | None, Field(ge=0, le=1, allow_inf_nan=False, description="a number of at least 0 and at most 1")
]
Later = Annotated[
    dict[str, Annotated[StrictInt, Field(ge=0, le=MOST)]] | None,
    Field(max_length=MOST, description="a whole number of at least 0 for each of some groups of labels"),
]
Count = Annotated[StrictInt | None, Field(ge=1, le=MOST, description="a whole number of at least 1")]


class BackboneSettings(OpenRecord):
    """What stands between volume and head; which options there are besides, the model's kind says (docs/backbones.md).

    Attributes:
        name: ``none`` (the head sees the volume), ``convolution`` (a small network that learns with the head), or
            ``vlm`` (a frozen vision model watches it).
        path: the model's folder, Hub id or shipped name; for ``none``, of a model whose text tower alone is used.
    """

    name: Annotated[Literal["none", "convolution", "vlm"], Field(description=_BACKBONE)] = "none"
    path: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> BackboneSettings:
        misfits = {"none": self.options, "convolution": self.path, "vlm": not self.path}
        if misfits[self.name]:
            raise ValueError(f"expected {_BACKBONE}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What the model is told besides its path."""
        return dict(self.model_extra or {})


@record
class AggregatorSettings:
    """See `cvg.classifier.aggregator.Aggregator`.

    Attributes:
        dim: width of the Transformer.
        depth: its blocks; 0 leaves the weighted mean alone.
        attention_heads: heads of its attention.
        dropout: in its blocks.
    """

    dim: Annotated[StrictInt, Field(ge=1, le=MOST)] = 64
    depth: Annotated[StrictInt, Field(ge=0, le=100)] = 2
    attention_heads: Annotated[StrictInt, Field(ge=1, le=MOST)] = 4
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _divisible(self) -> AggregatorSettings:
        if self.dim % self.attention_heads:
            raise ValueError(f"attention_heads {self.attention_heads} does not divide dim {self.dim}; choose a divisor")
        return self


@record
class LinearSettings:
    """`cvg.classifier.head.LinearHead`: the paper's W, b."""

    name: Literal["linear"] = "linear"


@record
class JointSettings:
    """`cvg.classifier.head.JointHead`: the backbone's own comparison of video and text.

    Attributes:
        tied: anchors stay what the text tower makes of the labels; if not, they are trained.
        captions: what the text tower is shown of a wording, see `cvg.classifier.anchors.caption`.
        without: wordings that the anchors are made without.
    """

    name: Literal["joint"] = "joint"
    tied: StrictBool
    captions: Captions
    without: list[str]


@record
class AnchoredSettings:
    """`cvg.classifier.head.AnchoredHead`: a read-out into the backbone's text space.

    Attributes:
        rank: of the read-out.
        tied: see `JointSettings`, as the others.
    """

    name: Literal["anchored"] = "anchored"
    rank: Annotated[StrictInt, Field(ge=1, le=MOST, description="a positive integer")]
    tied: StrictBool
    captions: Captions
    without: list[str]


HeadSettings = Annotated[
    LinearSettings | JointSettings | AnchoredSettings,
    Field(discriminator="name", description="a head named linear, joint or anchored"),
]


@record(called="sampling")
class SamplingSettings:
    """What suits a generator and its classifier best, where that is not the default.

    Attributes:
        step_size: length of an edit of the latents at a guided step. Where this and the following are None, they are
            those of `cvg.guidance.config`.
        fade: share of that length which an edit has lost where nothing is missing.
        iterations: edits of one sample in one guided step, at most.
        repeat_below: target probability below which there is another edit.
        guidance_scale: of classifier-free guidance; None: the pipeline's own.
        rules: weight of the labels' formulas in the loss, beside the classifier's own term; None: they are not in it.
        spread: weight of the entities' spread in the loss.
        guided_steps: how many of the noise levels are guided at, noisiest first.
        every_step: whether all denoising steps down to these levels are guided.
        later: how many noise levels later than others prompts are guided that ask for labels of these groups alone;
            None: all are guided at the noisiest ones.
    """

    step_size: Amount = None
    fade: Share = None
    iterations: Count = None
    repeat_below: Share = None
    guidance_scale: Amount = None
    rules: Amount = None
    spread: Amount = None
    guided_steps: Count = None
    every_step: StrictBool | None = None
    later: Later = None


def _consistent(config: ClassifierConfig) -> ClassifierConfig:
    try:
        labels = LabelSet(config.labels)
    except UserError as error:
        raise ValueError(str(error)) from error
    if unknown := [group for group in config.sampling.later or () if group not in labels.groups]:
        raise ValueError(f"sampling.later {unknown[0]!r}: no group of the labels, which are {', '.join(labels.groups)}")
    volume = len(config.sigmas) * config.slots * prod(config.volume_grid)
    if max(volume, prod(config.grid)) > _MOST_VALUES:
        raise ValueError(f"volumes of {volume} values, more than the {_MOST_VALUES} that are read")
    return config


@record
class ClassifierConfig:
    """Everything a classifier is, except its weights; nested settings may be given as mappings.

    Attributes:
        labels: the label set, as `LabelSet.to_dict` gives it.
        generator: name, class and fingerprint of the video generator whose maps it reads.
        layers: indices of the tapped layers.
        heads: indices of the attention heads.
        sigmas: noise levels of the guided steps, noisiest first.
        grid: [F, H, W] of the maps in training; others are resampled to it.
        slots: entity slots K.
        volume_grid: [F, H, W] of the volume.
        backbone: what watches the volume; nothing when left out.
        aggregator: what makes the volume.
        noise: deviation of the smooth noise it was trained with, in units of the volume.
        schema: version of this format.
        token_grid: the generator's latent tokens [F, H, W] in training, of which the maps held averages.
        head: what makes logits of the features; linear when left out.
        sampling: what sampling with this classifier uses where the user chooses nothing; see `SamplingSettings`. Shards
            may name the scale; the rest is set when the classifier is exported, after a search on the generator.
        seen: per label the training records that show it, or whose mirror image does; None where that is not known.
        licences: the records of its training by the licence of their videos, and by data set; None where none is known.
        levels: noise levels of all steps of the schedule that its records were made on; None where that is not known.

    Raises:
        SettingsError: a field that does not fit.
    """

    labels: dict[str, Any]
    generator: Identity
    layers: Indices
    heads: Indices
    sigmas: Levels
    grid: LatentGrid
    slots: Annotated[StrictInt, Field(ge=1, le=SLOTS)]
    volume_grid: LatentGrid
    backbone: Annotated[BackboneSettings, Field(description=_BACKBONE)] = BackboneSettings()
    aggregator: AggregatorSettings = field(default_factory=AggregatorSettings)
    noise: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)] = 0.0
    schema: Annotated[Literal[1], Field(description="1, the version that is read here")] = SCHEMA
    token_grid: LatentGrid
    head: HeadSettings = field(default_factory=LinearSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    seen: Annotated[
        dict[str, Annotated[StrictInt, Field(ge=0, le=1 << 40)]] | None,
        Field(max_length=MOST, description="numbers of training records by label"),
    ] = None
    licences: Licences | None = None
    levels: Levels | None = None

    _bounds = model_validator(mode="after")(_consistent)

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON has it; what is None is left out."""
        return to_dict(self)

    def never_seen(self, label: str) -> bool:
        """Whether no training record showed a label, as far as that is known."""
        return self.seen is not None and not self.seen.get(label)

    @classmethod
    def from_dict(cls, data: Any, where: str) -> ClassifierConfig:
        """A config from JSON or a checkpoint. Raises ModelError naming ``where`` unless it is complete and fits."""
        return read(cls, data, f"{where}: not a classifier's config", "export it again", error=ModelError)


def check_folder(folder: Path) -> None:
    """Raise ModelError when a folder has no config.json of a classifier, or its weights are no regular file."""
    path, weights = folder / "config.json", folder / "model.safetensors"
    if not path.is_file():
        raise ModelError(f"classifier {folder}: no config.json there; give a folder written by `python -m cvg.export`")
    if not weights.is_file():
        raise ModelError(
            f"classifier {folder}: no model.safetensors there; give a folder written by `python -m cvg.export`"
        )
    ClassifierConfig.from_dict(read_json(path, MOST_CONFIG), str(path))
