"""FlowMo: what changes from frame to frame shall change evenly.

Shaulov, Hazan, Wolf, Chefer, *FlowMo: Variance-Based Flow Guidance for Coherent Motion in Video Generation*, 2025
(arXiv 2506.01144). Of the clean latents x that the model predicts from z_t, the distances of consecutive frames,
their variance over time at each place (mean over channels), and of these the greatest:

    d_f = |x_{f+1} - x_f|,   L = max_p mean_c Var_f(d_f[c, p]),   z_t' = z_t - eta grad_z L

at each of the first 12 of 50 steps. It knows nothing of the prompt's composition: it stands here as the guidance of
latents by the same group that is about motion alone.

What differs: x is predicted under the prompt alone, without classifier-free guidance, which saves half of the passes;
and the step is the plain gradient, where the released code takes steps of Adam.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from benchmarks.rivals.base import Ring
from benchmarks.rivals.gradient import Loss, PlainGradient

STEP_SIZES = (0.001, 0.003, 0.01)
EDITED = 12 / 50
"""Share of the denoising steps."""


class VarianceLoss(Loss):
    """How unevenly the predicted video changes; arguments as of :class:`benchmarks.rivals.gradient.Loss`."""

    def value(self, z: Tensor, step: int, samples: Sequence[int]) -> Tensor:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        generator, timestep = self.ring.generator, self.schedule.timesteps[step]
        states = self.conditioning.rows(samples).states
        with generator.at_timestep(timestep):
            prediction = generator.predict(z, timestep, states).float()
        kept, moved = self.schedule.between(step, self.ring.steps)
        return unevenness(kept * z + moved * prediction)


def unevenness(clean_BCFHW: Tensor) -> Tensor:
    """The greatest variance over time, among places, of the distance of consecutive frames: (B,)."""
    distance_BCFHW = clean_BCFHW.diff(dim=2).abs()
    return distance_BCFHW.var(2, unbiased=False).mean(1).amax((-1, -2))


def flowmo(ring: Ring) -> PlainGradient:
    """The rival."""
    return PlainGradient("FlowMo", ring, VarianceLoss, STEP_SIZES, EDITED)
