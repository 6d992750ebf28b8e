"""The composition classifier: entity maps -> volumes -> (frozen VLM) -> logits over the label set."""

# No `from __future__ import annotations`: the Hub mixin reads the type of `config` from the signature.
import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from cvg.classifier import backbones
from cvg.classifier.aggregator import Aggregator
from cvg.classifier.anchors import check_distinct, deviations, label_anchors, part_wordings
from cvg.classifier.config import ClassifierConfig, LinearSettings
from cvg.classifier.folder import ClassifierFolder
from cvg.classifier.head import TextHead, build_head
from cvg.common.errors import ModelError, PromptError
from cvg.common.fingerprint import whole_fingerprint
from cvg.common.sizes import Grid
from cvg.composition import LabelSet
from cvg.grounding.maps import resample


class CompositionClassifier(ClassifierFolder):
    """phi -> distribution over compositions; ``save_pretrained``, ``push_to_hub`` and ``from_pretrained``.

    The folder holds ``config.json`` and ``model.safetensors`` (aggregator, absent volume and head; never the VLM), a
    card, and what the card tells of an evaluation.

    Args:
        config: see `ClassifierConfig`.

    Raises:
        UserError: a label set or backbone that cannot be used.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.labels = LabelSet.stored(config.labels)
        grid, steps = Grid(*config.volume_grid), len(config.sigmas)
        self.aggregator = Aggregator(
            steps, len(config.layers), len(config.heads), config.slots, grid, **asdict(config.aggregator)
        )
        # What phi holds for a guided step that has not been seen (yet).
        self.absent_SKFHW = nn.Parameter(torch.zeros(steps, config.slots, *grid))
        self.backbone = backbones.build(config.backbone, config.slots, grid)
        if self.backbone.fingerprint:  # whoever loads it has to have the same frozen model
            found = {"fingerprint": self.backbone.fingerprint}
            config = replace(config, backbone=config.backbone.model_copy(update=found))
        self.config = config
        self.head = build_head(config.head, self.backbone, steps * self.backbone.feature_dim, len(self.labels))

    def identity(self, name: str) -> dict[str, Any]:
        """Which classifier this is, for the record: a fingerprint of all weights, and what it was trained with.

        Args:
            name: that it was loaded by.
        """
        config = self.config.to_dict()
        kept = ("layers", "heads", "sigmas", "backbone", "aggregator", "noise")
        return {
            "name": name,
            "fingerprint": whole_fingerprint(self.state_dict()),
            **{key: config[key] for key in kept},
            "labels": [label.name for label in self.labels.labels],
        }

    def step_volume(self, maps_BLAKFHW: Tensor, present_BK: Tensor, step: int) -> Tensor:
        """The volume of one guided step.

        Args:
            maps_BLAKFHW: attention probabilities of the config's layers and heads, of any dtype and F, H, W.
            present_BK: bool, entity slots in use.
            step: index into the config's sigmas.

        Returns:
            (B, K, F, H, W) on the volume grid.
        """
        index = torch.full((len(maps_BLAKFHW),), step, device=maps_BLAKFHW.device)
        return self._aggregate(maps_BLAKFHW, present_BK, index)

    def _aggregate(self, maps_BLAKFHW: Tensor, present_BK: Tensor, step_B: Tensor) -> Tensor:
        want = (len(self.config.layers), len(self.config.heads), self.config.slots)
        if tuple(maps_BLAKFHW.shape[1:4]) != want:
            raise ModelError(
                f"classifier: maps of (layers, heads, slots) {tuple(maps_BLAKFHW.shape[1:4])}, but it was trained on "
                f"{want}; tap layers {self.config.layers} and heads {self.config.heads}"
            )
        grid = Grid(*self.config.grid)  # what `data_prep.invert` may have done to the maps of training
        maps = resample(maps_BLAKFHW.to(self.absent_SKFHW.dtype), grid)
        return self.aggregator(maps, present_BK, step_B)

    def _absent(self, present_BK: Tensor) -> Tensor:
        return self.absent_SKFHW * present_BK[:, None, :, None, None, None]

    def volume(self, maps_BSLAKFHW: Tensor, present_BK: Tensor, steps_BS: Tensor) -> Tensor:
        """phi of a batch whose samples each use their own steps.

        Args:
            maps_BSLAKFHW: attention probabilities.
            present_BK: bool, entity slots in use.
            steps_BS: bool, steps in use, at least one per sample; the maps of the others are not read.

        Returns:
            (B, S, K, F, H, W)
        """
        sample, step = steps_BS.nonzero(as_tuple=True)
        volumes = self._aggregate(maps_BSLAKFHW[sample, step], present_BK[sample], step)
        absent = self._absent(present_BK)  # in its own precision, whatever autocast made the others of
        return absent.index_put((sample, step), volumes.to(absent))

    def features(self, phi_BSKFHW: Tensor, present_BK: Tensor, steps_BS: Tensor | None = None) -> Tensor:
        """What the backbone makes of each step's volume: (B, S, D).

        Args:
            phi_BSKFHW: the volumes.
            present_BK: bool, entity slots in use.
            steps_BS: bool, steps in use; those of the others have the features of an absent step, and their volumes
                are not looked at. None: all are in use.
        """
        if steps_BS is None:
            batch, steps = phi_BSKFHW.shape[:2]
            present = present_BK.repeat_interleave(steps, 0)
            return self.backbone(phi_BSKFHW.flatten(0, 1), present).unflatten(0, (batch, steps))
        sample, step = steps_BS.nonzero(as_tuple=True)
        seen = self.backbone(phi_BSKFHW[sample, step], present_BK[sample])
        return self.absent_features(present_BK).index_put((sample, step), seen)

    def classify(self, phi_BSKFHW: Tensor, present_BK: Tensor, steps_BS: Tensor | None = None) -> Tensor:
        """Logits (B, Y) of phi; arguments as for `features`."""
        return self.head(self.features(phi_BSKFHW, present_BK, steps_BS).flatten(1))

    def absent_features(self, present_BK: Tensor) -> Tensor:
        """Features (B, S, D) of a phi without evidence: one pass for all samples with the same entity slots."""
        distinct, which_B = present_BK.unique(dim=0, return_inverse=True)
        # Not by an index in brackets, whose gradient on several threads sums in any order: runs would not repeat.
        return self.features(self._absent(distinct), distinct).index_select(0, which_B)

    def forward(self, maps_BSLAKFHW: Tensor, present_BK: Tensor, steps_BS: Tensor) -> Tensor:
        """Logits (B, Y) of a batch; see `volume`."""
        return self.classify(self.volume(maps_BSLAKFHW, present_BK, steps_BS), present_BK, steps_BS)

    def anchor_labels(self) -> None:
        """Set a text head's anchors to the labels' text embeddings, and its read-out to where training starts.

        Raises:
            UserError: the text tower cannot be used, or embeds two labels of one group alike.
        """
        assert isinstance(self.head, TextHead)
        settings = self.config.head
        assert not isinstance(settings, LinearSettings)
        kept, _ = part_wordings(self.labels.labels, settings.without)
        anchor_YE = label_anchors(self.backbone, kept, settings.captions)
        check_distinct(self.labels.labels, anchor_YE)
        self.head.set_anchors(anchor_YE)
        self.head.start(deviations(self.labels.labels, anchor_YE))

    def with_label(
        self,
        name: str,
        wordings: Sequence[str] | None = None,
        group: str | None = None,
        entities: int | None = None,
    ) -> "CompositionClassifier":
        """A classifier that also knows a label it was not trained on, by what the VLM's text tower makes of it.

        This one stays as it is; the new one has weights of its own and shares the frozen backbone. It can be saved.

        Args:
            name: of the new label.
            wordings: phrases that state it; its name when None.
            group: whose labels it competes against; the one whose labels relate as many entities when None.
            entities: how many it relates, where the group is None.

        Raises:
            UserError: the head is linear, the label or a wording is known already, it is not clear which group is
                meant, or the text tower cannot be used or tell the label from another one of the group.
        """
        self._check_text_head(name)
        return self.with_labels(self.labels.extended(name, wordings or [name], group, entities))

    def with_labels(self, labels: LabelSet) -> "CompositionClassifier":
        """A classifier of another label set, by what the VLM's text tower makes of its labels.

        Labels that are the same in both, wordings and all, keep their anchors. See `with_label`.

        Args:
            labels: what the new classifier tells apart.

        Raises:
            UserError: the head is linear, or the text tower cannot be used or tell two labels of a group apart.
        """
        new = [label for label in labels.labels if label not in self.labels.labels]
        self._check_text_head((new or labels.labels)[0].name)
        assert isinstance(self.head, TextHead) and not isinstance(self.config.head, LinearSettings)
        anchors = dict(zip(self.labels.labels, self.head.anchor_YE.detach(), strict=True))
        if new:
            made_YE = label_anchors(self.backbone, new, self.config.head.captions).to(self.head.anchor_YE)
            anchors |= zip(new, made_YE, strict=True)
        anchor_YE = torch.stack([anchors[label] for label in labels.labels])
        check_distinct(labels.labels, nn.functional.normalize(anchor_YE, dim=-1))
        other = copy.deepcopy(self, {id(self.backbone): self.backbone})
        known = {label.name for label in labels.labels} - {label.name for label in new}
        seen = self.config.seen and {name: count for name, count in self.config.seen.items() if name in known}
        later = self.config.sampling.later
        kept = later and {group: levels for group, levels in later.items() if group in labels.groups}
        sampling = replace(self.config.sampling, later=kept)
        other.labels, other.config = labels, replace(self.config, labels=labels.to_dict(), seen=seen, sampling=sampling)
        assert isinstance(other.head, TextHead)
        other.head.set_anchors(anchor_YE)
        return other

    def _check_text_head(self, name: str) -> None:
        if not isinstance(self.head, TextHead):
            raise PromptError(
                f"label {name!r}: the classifier knows {', '.join(self.labels.names)}, in wordings of its own, "
                "and its linear head has no weights for others; use one of them, or a classifier trained with an "
                "anchored or joint head (docs/new_labels.md)"
            )

    def nearest_label(self, name: str) -> tuple[str, float]:
        """The other label of the group whose anchor is nearest to this one's, and the cosine. For an anchored head."""
        assert isinstance(self.head, TextHead)
        anchor_YE = nn.functional.normalize(self.head.anchor_YE.detach(), dim=-1)
        own = self.labels.index(name)
        others = [i for i in self.labels.group_indices(name) if i != own]
        cosine, place = (anchor_YE[others] @ anchor_YE[own]).max(0)
        return self.labels.names[others[int(place)]], float(cosine)
