"""What guided sampling cannot go on with, found where it arises: numbers, gradients, another generator."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from cvg.common.errors import ModelError
from cvg.common.fingerprint import same_generator
from cvg.common.sizes import Size
from cvg.diffusion.trajectory import same_way
from cvg.generators import Generator
from cvg.generators.provenance import told_differences

REMEDY = "load the generator in float32 or bfloat16, and see whether its weights and the classifier's are whole"


_SHOWN = 8
"""Noise levels that are told of a schedule, at most."""


class NumbersError(ModelError):
    """What a denoising step computed cannot be gone on with."""


@contextmanager
def at_step(step: int, steps: int) -> Iterator[None]:
    """Within it a :class:`NumbersError` names the denoising step."""
    try:
        yield
    except NumbersError as error:
        raise ModelError(f"denoising step {step} of {steps} (the first is 0): {error}") from error


def require_finite(what: str, value_B: Tensor, samples: Sequence[int] | None = None) -> None:
    """Check that a batch holds neither NaN nor infinity.

    Args:
        what: its name, in the plural.
        value_B: the batch first.
        samples: which samples of the whole batch these are; all when None.

    Raises:
        NumbersError: it does; the samples are named.
    """
    if value_B.isfinite().all():
        return
    wrong = [index for index, value in enumerate(value_B) if not value.isfinite().all()]
    named = ", ".join(str(index if samples is None else samples[index]) for index in wrong)
    raise NumbersError(f"the {what} of sample {named} of the batch are not finite; {REMEDY}")


def gradient_of(
    loss: Tensor, z: Tensor, active: Sequence[int], moving: Sequence[int], first: Collection[int]
) -> Tensor:
    """The gradient of the loss in the latents.

    Args:
        loss: a scalar.
        z: latents of the active samples, (B', C, F, H', W').
        active: their indices in the batch.
        moving: those of them that are to be moved.
        first: samples whose first guided step this is; each of those that are to be moved must have a gradient.

    Raises:
        NumbersError: it is not finite, or there is none.
    """
    gradient = torch.autograd.grad(loss, z, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        gradient = torch.zeros_like(z)
    require_finite("gradients", gradient, active)
    still = [sample for sample in moving if sample in first and not gradient[active.index(sample)].any()]
    if still:
        raise NumbersError(
            f"the gradient of sample {', '.join(map(str, still))} of the batch is zero, though it is not what is "
            "asked: something between the latents and the classifier's verdict passes no gradients on (weights that "
            "are quantised, a hook under no_grad, a step cache, a constant classifier); take it away"
        )
    return gradient


def call_differences(
    trained: Sequence[float] | None,
    levels: Sequence[float],
    own_scale: float | None,
    scale: float | None,
    sizes: tuple[Size, Size] | None = None,
) -> list[str]:
    """What to tell of a call that denoises otherwise than the videos of a classifier's training, a line each.

    Args:
        trained: the noise level of each step that those were inverted in; None where that is not known.
        levels: those of the call.
        own_scale: of classifier-free guidance, the classifier's; None where it has none.
        scale: the call's; the classifier's when None.
        sizes: of those videos and of the call's; None where nothing was trained.
    """
    found = []
    if trained is not None and not same_way(levels, trained):
        found.append(
            f"the classifier was trained on {_steps(trained)}, not on {_steps(levels)}; its verdicts may be less right "
            "(docs/few_steps.md)"
        )
    if None not in (own_scale, scale) and own_scale != scale:
        found.append(f"guidance_scale {scale:g}: the classifier's own is {own_scale:g}")
    if sizes is not None and sizes[0] != sizes[1]:
        found.append(f"size {list(sizes[1])}: the classifier was trained on frames, rows, columns {list(sizes[0])}")
    return found


def _steps(levels: Sequence[float]) -> str:
    shown = ", ".join(f"{level:.3g}" for level in levels[:_SHOWN]) + (", ..." if len(levels) > _SHOWN else "")
    return f"{len(levels)} denoising steps (noise levels {shown})"


def differences_from_training(generator: Generator, trained: Mapping[str, str] | None) -> str | None:
    """What to tell of a generator that is loaded otherwise than in a classifier's training; None where it is not.

    Args:
        generator: as it is now.
        trained: identity of the classifier's; None for rules, which go with any.

    Raises:
        ModelError: it is another one.
    """
    if trained is None:
        return None
    ours = generator.identity()
    if not same_generator(ours, trained):
        theirs, given = ("{name} ({class}, {fingerprint})".format(**identity) for identity in (trained, ours))
        weights = [weight for network in generator.networks for weight in network.parameters()]
        remedy = "use that generator, or train a classifier on this one"
        if any(weight.dtype == torch.float16 for weight in weights):
            remedy = "in float16 it cannot be told from another model: load it in bfloat16 or float32"
        raise ModelError(f"classifier: trained on the attention of {theirs}, but the generator is {given}; {remedy}")
    return told_differences(ours, trained)
