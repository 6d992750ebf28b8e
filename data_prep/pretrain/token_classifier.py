"""A classifier of latent tokens, beside the transformer's training: it says, from a middle block, what each shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cvg.generators import Generator
from cvg.generators.conditioning import States
from cvg.shapes.actions import TURNING
from cvg.shapes.renderer import FRAMES, SIZE, Scene, patch_shares
from cvg.shapes.world import ENTITIES, Spec

CLASSIFIED_BLOCK = 3
"""Block whose hidden state is classified."""


class WithTokenClassifier(nn.Module):
    """The transformer, and a linear classifier of the entity at each latent token, from a middle block's hidden state.

    The classifier is for training only. Velocity errors are mostly those of the background; naming what is where, asked
    of the noisy latents, teaches the blocks early which entities there are (as representation alignment does: Yu et
    al., arXiv 2410.06940).
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        self.token_classifier = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(ENTITIES) + 1))

    def forward(self, generator: Generator, noisy: Tensor, timestep: Tensor, states: States) -> tuple[Tensor, Tensor]:
        """Velocity, and logits (B, tokens, entities + 1) of which entity, or the background, a token shows.

        Args:
            generator: the adapter that calls the transformer.
            noisy: latents (B, C, F, H, W).
            timestep: (B,).
            states: of the prompts.
        """
        hidden: list[Any] = []
        hook = generator.blocks[CLASSIFIED_BLOCK].register_forward_hook(lambda *call: hidden.append(call[-1]))
        velocity = generator.predict(noisy, timestep, states)
        hook.remove()
        video = hidden[0][0] if isinstance(hidden[0], tuple) else hidden[0]  # joint attention: the text's come second
        return velocity, self.token_classifier(video.float())


def seen_shares(scene: Scene, patch: int) -> list[NDArray[Any]]:
    """Share of each patch in which each entity that a clip shows is seen (see ``Spec.shown``): (F, H, W) each.

    Args:
        scene: at all its frames, or at every so many.
        patch: side of a patch, in pixels.
    """
    seen = patch_shares(scene.sprites, patch)
    if isinstance(scene.sprites[0].rgb, np.ndarray):  # it turns another colour: the second is what it turns into
        turned_F11 = TURNING[:: (FRAMES - 1) // (len(seen[0]) - 1), None, None]
        return [(1 - turned_F11) * seen[0], turned_F11 * seen[0]]
    return list(seen)


def coverage(scene: Scene) -> NDArray[np.float32]:
    """Share of each latent token in which each entity that a clip shows is seen (see ``Spec.shown``): (2, F, H, W).

    Zeros for a second entity that is not there.
    """
    shares = np.zeros((2, 1 + (FRAMES - 1) // 4, SIZE // 8, SIZE // 8), np.float32)
    for share, patches in zip(shares, seen_shares(scene, 8), strict=False):
        share[0], share[1:] = patches[0], patches[1:].reshape(-1, 4, *patches.shape[1:]).mean(1)
    return shares


def targets(shares_B2FHW: Tensor, specs: list[Spec]) -> Tensor:
    """What the classifier is to say: (B, tokens, entities + 1), the last column the background."""
    shares = shares_B2FHW.float().flatten(2)
    wanted = torch.zeros(len(specs), shares.shape[-1], len(ENTITIES) + 1)
    for row, share, spec in zip(wanted, shares, specs, strict=True):
        for slot, entity in enumerate(spec.shown):
            row[:, ENTITIES.index(entity)] = share[slot]
    wanted[..., -1] = (1 - wanted.sum(-1)).clamp_min(0)
    return wanted


def weights(named: Tensor, latents: Tensor, entities: float) -> Tensor:
    """What the error of each position of the latents counts, by what its token shows: (B, 1, F, H, W).

    Args:
        named: what the classifier is to say, of :func:`targets`.
        latents: (B, C, F, H, W). Where a token joins latent frames, the first token has fewer of them, as in the
            adapters.
        entities: what a token counts that shows entities alone; one of the background counts 1, others in proportion.
    """
    shown_BFHW = (1 - named[..., -1]).unflatten(1, (-1, SIZE // 8, SIZE // 8))
    for dim, wanted in enumerate(latents.shape[2:], 1):
        joined = -(-wanted // shown_BFHW.shape[dim])
        repeated = shown_BFHW.repeat_interleave(joined, dim)
        shown_BFHW = repeated.narrow(dim, repeated.shape[dim] - wanted, wanted)
    return 1 + (entities - 1) * shown_BFHW.unsqueeze(1)
