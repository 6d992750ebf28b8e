"""What a step of a transformer's training takes: which clips, how often of each kind, and how often captions lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvg.common.errors import SettingsError
from cvg.generators import Generator
from cvg.shapes.world import Spec, known_kinds
from data_prep.pretrain.clips import SCRAMBLED, caption, noised, partners
from data_prep.pretrain.token_classifier import targets

OFTENER = {"two_relations": 2.0, "three_relations": 2.0, "depth": 1.5, "interaction": 3.0, "action": 2.0, "path": 2.0}
"""How often clips of a kind are drawn, others being 1: of several relations or of many labels, they take longer."""


def require_weights(kinds: Mapping[str, float]) -> None:
    """Raise SettingsError for a kind, or a label, whose weight is not above 0."""
    for kind, weight in kinds.items():
        if not (math.isfinite(weight) and weight > 0):
            raise SettingsError(f"kinds {kind!r}: its weight is {weight}; give more than 0, or leave it out")


def often_drawn(kinds: Mapping[str, float] | None) -> dict[str, float]:
    """How often clips of each kind are drawn: of those that are named, else of all, as :data:`OFTENER` says.

    Raises:
        SettingsError: a kind that there is not, or a weight that is not above 0.
    """
    require_weights(kinds or {})
    return {kind: (kinds or OFTENER).get(kind, 1.0) for kind in known_kinds([*(kinds or ())] or None)}


def often_wrong(scrambled: float | Mapping[str, float] | None, drawn: Sequence[str]) -> dict[str, float]:
    """How often a relation of a caption is drawn, by kind: :data:`SCRAMBLED`, but where another probability is given.

    Args:
        scrambled: one probability for all kinds, or one for each that is named.
        drawn: kinds of which there are clips.

    Raises:
        SettingsError: a kind of which there is no clip, no probability, or more than half of the captions of
            `attribute`, whose two colours would then mean each other.
    """
    if not isinstance(scrambled, Mapping):
        scrambled = {} if scrambled is None else dict.fromkeys(drawn, scrambled)
    known_kinds([*scrambled] or None)
    for kind, share in scrambled.items():
        if not 0 <= share <= 1:
            raise SettingsError(f"scrambled {kind!r}: {share} is no probability; give 0 to 1")
        if kind == "attribute" and share > 0.5:  # two colours: what is not wrong is exchanged
            raise SettingsError(
                f"scrambled {kind!r}: {share} of captions would say the other one's; give 0.5 at most, and where other "
                "kinds are to have more, each of them its own"
            )
        if kind not in drawn:
            raise SettingsError(f"scrambled {kind!r}: no clips of this kind are drawn; leave it out, or draw some")
    return {kind: scrambled.get(kind, SCRAMBLED[kind]) for kind in drawn}


class Drawing:
    """Draws the batch of a step from its index alone.

    Args:
        data: of :func:`data_prep.pretrain.clips.encode_clips`.
        specs: of the clips.
        often: how often clips of a kind are drawn (:func:`often_drawn`).
        wrong: how often a relation of a caption is drawn (:func:`often_wrong`).
        dropped: probability of an empty caption.
        batch_size: clips per step.
        reader: encodes captions, on the CPU with the rest: a tokenizer takes longer than a GPU takes for a step.
    """

    def __init__(
        self,
        data: Mapping[str, Tensor],
        specs: Sequence[Spec],
        often: Mapping[str, float],
        wrong: Mapping[str, float],
        dropped: float,
        batch_size: int,
        reader: Generator,
    ) -> None:
        self.data, self.specs, self.wrong, self.dropped = data, specs, wrong, dropped
        self.batch_size, self.reader = batch_size, reader
        share = np.array([often[spec.kind] for spec in specs])
        self._share, self._alike = share / share.sum(), partners(specs)

    def __call__(self, index: int) -> dict[str, Any]:
        """The batch of a step.

        Returns:
            ``states`` of the captions; ``named``, what the token classifier is to say (B, tokens, entities + 1); and
            what :func:`data_prep.pretrain.clips.noised` makes of the clips.
        """
        rng = np.random.default_rng([index, 4])
        chosen = rng.choice(len(self.specs), size=self.batch_size, p=self._share)
        specs = [self.specs[i] for i in chosen]
        named = targets(self.data["coverage"][chosen], specs)
        captions = [caption(spec, self.wrong[spec.kind], self.dropped, rng) for spec in specs]
        with torch.no_grad():
            states = self.reader.encode_prompts(captions)
        return {"states": states, "named": named, **noised(self.data["latents"], chosen, self._alike, rng)}
