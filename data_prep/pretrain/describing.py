"""Readers for the X-CLIP's training: what a clip shows and where, and what a caption says.

A small contrastive model from nothing stays at chance for long: what a caption is about has to be found in a clip
before the two can be compared. Linear readers on both towers, thrown away afterwards, ask for it directly.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import XCLIPModel

from cvg.judging.geometry import displacement
from cvg.shapes.renderer import SIZE, Scene, Sprite, patch_shares
from cvg.shapes.world import ENTITIES, Spec
from data_prep.pretrain.captioned import WORDINGS
from data_prep.pretrain.token_classifier import seen_shares

FACTS = 11
"""Per entity of a clip: mean position (2), displacement (2), change of its distance to the other entity; how far it is
out in the middle from where it is at the ends (2), and how much further it goes in the last step than in the first
(2); change of size; and the share of it that is not seen, hidden or away."""


@dataclass(frozen=True)
class Answers:
    """What the readers are to say of clips and their captions.

    Attributes:
        shown: share of each patch that each entity, or the background (last), covers: (B, F, patches, entities + 1).
        places: where the entities that are shown are in each frame, else 0: (B, F, entities, 2), of about unit size.
        present: entities shown, bool (B, entities).
        facts: of the entities that are shown, else 0: (B, entities, FACTS), of about unit size.
        said: classes of the caption's two entities and three labels, the last class where there is none: (B, 5).
    """

    shown: Tensor
    places: Tensor
    present: Tensor
    facts: Tensor
    said: Tensor

    def to(self, device: str) -> Answers:
        """The same on a device."""
        return Answers(*(getattr(self, field.name).to(device) for field in fields(self)))


def answers(scenes: list[Scene], specs: list[Spec], patch: int) -> Answers:
    """The answers for clips of these scenes, at the scenes' own frames.

    Args:
        scenes: what was drawn.
        specs: what the captions say of them.
        patch: side of the vision tower's patches, in pixels.
    """
    side, frames = SIZE // patch, len(scenes[0].sprites[0].track_F2)
    shown = np.zeros((len(scenes), frames, side, side, len(ENTITIES) + 1), np.float32)
    places = np.zeros((len(scenes), frames, len(ENTITIES), 2), np.float32)
    facts = np.zeros((len(scenes), len(ENTITIES), FACTS), np.float32)
    present = np.zeros((len(scenes), len(ENTITIES)), bool)
    labels = [label.name for label in WORDINGS.labels]
    nothing = [len(ENTITIES)] * 2 + [len(labels)] * 3
    said = np.tile(np.array(nothing), (len(scenes), 1))
    for row, (scene, spec) in enumerate(zip(scenes, specs, strict=True)):
        tracks = [sprite.track_F2 for sprite in scene.sprites]
        seen = seen_shares(scene, patch)
        for slot, entity in enumerate(spec.shown):
            index, sprite = ENTITIES.index(entity), scene.sprites[min(slot, len(tracks) - 1)]
            shown[row, ..., index] = seen[slot]
            present[row, index] = True
            places[row, :, index] = 4 * (sprite.track_F2 - 0.5)
            facts[row, index] = _facts(sprite, seen[slot], tracks[1 - slot] if len(tracks) == 2 else None)
            said[row, slot] = index
        for slot, relation in enumerate(spec.relations):
            said[row, 2 + slot] = labels.index(relation.label)
    shown[..., -1] = np.clip(1 - shown.sum(-1), 0, None)
    return Answers(
        torch.from_numpy(shown).flatten(2, 3),
        torch.from_numpy(places),
        torch.from_numpy(present),
        torch.from_numpy(facts),
        torch.from_numpy(said),
    )


def _facts(sprite: Sprite, seen_FHW: NDArray[Any], other_F2: NDArray[Any] | None) -> NDArray[np.float64]:
    """What is asked of an entity, see :data:`FACTS`, of about unit size."""
    track_F2 = sprite.track_F2
    step_F2 = np.diff(track_F2, axis=0)
    apart = 0.0
    if other_F2 is not None:
        distance_F = np.linalg.norm(track_F2 - other_F2.mean(0), axis=-1)
        apart = distance_F[-1] - distance_F[0]
    size_F = np.broadcast_to(sprite.radius, len(track_F2))
    whole = sum(share.sum() for share in patch_shares([replace(sprite, opacity=1.0)], seen_FHW.shape[-1]))
    return np.concatenate(
        [
            4 * (track_F2.mean(0) - 0.5),
            4 * displacement(track_F2),
            [4 * apart],
            4 * (track_F2[1:-1].mean(0) - track_F2[[0, -1]].mean(0)),
            4 * (step_F2[-1] - step_F2[0]),
            [np.log2(size_F[-1] / size_F[0]), 4 * (1 - seen_FHW.sum() / whole)],
        ]
    )


class Described(nn.Module):
    """The model and its readers: of patch tokens, of each frame's class state, of the whole video, of the caption.

    Class states, from which the video's embedding is made, take up what a frame shows and not where, unless asked.
    """

    def __init__(self, model: XCLIPModel) -> None:
        super().__init__()
        self.model = model
        self.what = nn.Linear(model.config.vision_config.hidden_size, len(ENTITIES) + 1)
        self.places = nn.Linear(model.config.vision_config.hidden_size, 2 * len(ENTITIES))
        self.where = nn.Linear(model.config.projection_dim, len(ENTITIES) * (1 + FACTS))
        self.sizes = [len(ENTITIES) + 1] * 2 + [len(WORDINGS) + 1] * 3
        self.said = nn.Linear(model.config.text_config.hidden_size, sum(self.sizes))

    def forward(self, output: Any, wanted: Answers) -> dict[str, Tensor]:
        """The readers' losses.

        Args:
            output: of the model, for these clips and captions.
            wanted: the answers.
        """
        tokens = output.vision_model_output.last_hidden_state[:, 1:]
        shown = wanted.shown.flatten(0, 1)
        what = F.cross_entropy(self.what(tokens).transpose(1, 2), shown.transpose(1, 2))
        states = output.vision_model_output.pooler_output.unflatten(0, wanted.places.shape[:2])
        placed = self.places(states).unflatten(-1, (len(ENTITIES), 2)) - wanted.places
        places = placed.movedim(2, 1)[wanted.present].square().mean()
        video = output.video_embeds * output.video_embeds.shape[-1] ** 0.5
        read = self.where(video).unflatten(-1, (len(ENTITIES), 1 + FACTS))
        present = F.binary_cross_entropy_with_logits(read[..., 0], wanted.present.float())
        where = (read[..., 1:] - wanted.facts)[wanted.present].square().mean()
        said = self.said(output.text_model_output.pooler_output).split(self.sizes, -1)
        caption = torch.stack([F.cross_entropy(logits, wanted.said[:, i]) for i, logits in enumerate(said)]).mean()
        return {"what": what, "places": places, "present": present, "where": where, "caption": caption}
