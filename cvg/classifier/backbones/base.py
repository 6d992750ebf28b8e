"""What stands between the volume and the head: nothing, a network that learns with it, or a frozen vision model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from cvg.common.errors import ModelError

WITH_TEXT = ("clip", "xclip", "siglip", "siglip2", "videoprism")
"""Model types that have a text tower in the same space as their pictures."""


class Backbone(nn.Module):
    """A differentiable map from the volume of a step to features; steps do not see one another.

    It learns nothing, unless it has weights of its own, as a convolution has. A frozen model held in ``tower`` is
    deliberately not a submodule: it never appears in ``parameters()`` (no optimiser, DDP or gradient clipping sees it),
    in ``state_dict()`` (checkpoints stay small), nor does ``train()`` reach it. It does follow ``to()``.

    Attributes:
        feature_dim: size D of the features of one step.
        joint_dim: size E of the space of `text_features` and `joint_features`; None without a text tower.
        reads_joint: features are embeddings in that space.
        fingerprint: of the frozen model's weights; None without one.
    """

    feature_dim: int
    joint_dim: int | None = None
    reads_joint: bool = False
    fingerprint: str | None = None
    _frozen: tuple[()] | tuple[nn.Module]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_frozen", ())

    @property
    def tower(self) -> nn.Module | None:
        """The frozen model, in evaluation mode, or None."""
        return self._frozen[0] if self._frozen else None

    def freeze(self, model: nn.Module) -> None:
        """Take a model as the tower: evaluation mode, no gradients for its weights."""
        object.__setattr__(self, "_frozen", (model.eval().requires_grad_(False),))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        for model in self._frozen:
            model._apply(fn)
        return super()._apply(fn, recurse)

    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features of one step's volumes.

        Args:
            volume_BKFHW: the step's part of phi.
            present_BK: bool; whatever an absent entity slot holds is ignored.

        Returns:
            (B, D)
        """
        raise NotImplementedError

    def video(self, volume_BKFHW: Tensor) -> Tensor | None:
        """What the frozen model is shown of one step's volumes, before its own normalisation, for people to look at.

        Returns:
            (B, frames, 3, h, w) in [0, 1]; None where there is no such model.
        """
        return None

    def forward(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """The same as `features`."""
        return self.features(volume_BKFHW, present_BK)

    def text_features(self, phrases: Sequence[str]) -> Tensor:
        """Embeddings of phrases in the space of `joint_features`.

        Returns:
            (N, E), rows of unit length, without gradients.

        Raises:
            ModelError: there is no text tower, or its tokenizer cannot be loaded.
        """
        raise ModelError(f"backbone: this one has no text tower; those that have one: {', '.join(WITH_TEXT)}")

    def joint_features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Embeddings of one step's volumes in the space of `text_features`; arguments as for `features`.

        Returns:
            (B, E), rows of unit length.

        Raises:
            ModelError: there is no text tower, or ``layer`` leaves out blocks that the embedding needs.
        """
        raise ModelError(f"backbone: this one has no text tower; those that have one: {', '.join(WITH_TEXT)}")


def only_present(volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
    """The volumes with absent entity slots set to zero."""
    return volume_BKFHW * present_BK[:, :, None, None, None]
