"""Training and guiding on perturbed volumes, so that the classifier's gradient means something.

An accurate classifier need not steer: its gradient can be adversarial, changing the verdict and nothing one can see.
Two remedies, both on the volume phi: smooth noise (randomised smoothing, Cohen et al., arXiv 1902.02918, with noise
that a linear low-pass cannot remove) and worst-case perturbations (adversarial training, Madry et al., arXiv
1706.06083), whose known side effect is gradients aligned with what is perceived (Santurkar et al., arXiv 1906.09453).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_KERNEL = 3  # latent tokens and frames that share noise


def evidence_mask(present_BK: Tensor, steps_BS: Tensor) -> Tensor:
    """Where phi holds evidence: bool (B, S, K, 1, 1, 1), false for absent steps and absent entity slots."""
    return (steps_BS[:, :, None] & present_BK[:, None, :])[..., None, None, None]


def smooth_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Box-blurred Gaussian noise of unit deviation everywhere, borders included.

    Args:
        shape: (..., F, H, W); the last three axes are blurred.
        generator: CPU generator, so that the noise is the same on every device.

    Returns:
        float32 noise on the CPU.
    """
    white = torch.randn(shape, generator=generator).reshape(-1, 1, *shape[-3:])
    # Kernels no larger than the volume, and odd, so that the output has the input's size.
    kernel = tuple(min(_KERNEL, size - 1 + size % 2) for size in shape[-3:])
    pad = tuple(k // 2 for k in kernel)
    count = F.avg_pool3d(torch.ones(1, 1, *shape[-3:]), kernel, 1, pad) * math.prod(kernel)
    blurred = F.avg_pool3d(white, kernel, 1, pad) * math.prod(kernel) / count.sqrt()
    return blurred.reshape(shape)


def worst_case(phi_BSKFHW: Tensor, loss: Callable[[Tensor], Tensor], mask: Tensor, radius: float | Tensor) -> Tensor:
    """An L2 perturbation of phi that raises the loss: one step along its gradient, per sample.

    Args:
        phi_BSKFHW: the volumes; not differentiated through.
        loss: phi -> loss of each sample (B,).
        mask: where phi may change, broadcastable to it (`evidence_mask`).
        radius: root mean square of the perturbation over the masked part, in units of phi (whose deviation is 1), so
            that one value serves all sizes; or one for each sample (B,).

    Returns:
        The perturbation, detached, of phi's shape.
    """
    phi, mask = phi_BSKFHW.detach(), mask.expand_as(phi_BSKFHW).to(phi_BSKFHW)

    def norm(x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(1).sqrt().view(-1, *[1] * (x.ndim - 1))

    limit = (radius * mask.flatten(1).sum(1).sqrt()).view(-1, *[1] * (phi.ndim - 1))
    zero = torch.zeros_like(phi).requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(phi + zero).sum(), zero)
    gradient = gradient * mask
    delta = limit * gradient / norm(gradient).clamp_min(1e-12)
    return delta * (limit / norm(delta).clamp_min(1e-12)).clamp_max(1)  # rounding may have left the sphere
