"""How latents take a step against a gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def move(z_CFHW: Tensor, gradient_CFHW: Tensor, step_size: float) -> Tensor:
    """z' = z - eta g / rms(g), with every channel given back the mean and the deviation it had (paper, inference (d)).

    The latents of early steps are almost all noise, and the generator knows noise of one mean and size. A plain step
    shifts and grows channels, which it takes for colour and texture: entities melt or double.

    Args:
        z_CFHW: latents of one sample.
        gradient_CFHW: of the loss; only its direction counts.
        step_size: eta, root mean square of the step before channels are corrected.

    Returns:
        The moved latents; with a step size of zero, ``z_CFHW`` bit for bit.
    """
    if step_size == 0:
        return z_CFHW
    axes = (-3, -2, -1)
    moved = z_CFHW - step_size * _unit(gradient_CFHW)
    deviation, moved_deviation = z_CFHW.std(axes, keepdim=True), moved.std(axes, keepdim=True)
    scale = torch.where(moved_deviation > 0, deviation / moved_deviation, 1.0)
    return (moved - moved.mean(axes, keepdim=True)) * scale + z_CFHW.mean(axes, keepdim=True)


def _unit(gradient: Tensor) -> Tensor:
    """A sample's gradient scaled to root mean square 1; a zero gradient stays zero."""
    rms = gradient.square().mean().sqrt()
    if not torch.finfo(rms.dtype).tiny ** 0.5 <= rms < torch.inf:  # its squares have lost bits, or all there is
        largest = gradient.abs().amax()
        if largest == 0:
            return gradient
        gradient = gradient / largest
        rms = gradient.square().mean().sqrt()
    return gradient / rms
