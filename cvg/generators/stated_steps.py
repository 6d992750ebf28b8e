"""Denoising steps at timesteps that are stated, as models for few steps need them, whatever a pipeline would choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import register_to_config
from typing_extensions import override

from cvg.common.errors import SettingsError


class StatedSteps(FlowMatchEulerDiscreteScheduler):
    """Euler's steps of flow matching at stated timesteps: no shift moves them, and there are no others.

    It stands in a pipeline in the place of its own scheduler, so that all who ask the pipeline for its steps see these.

    Args:
        stated: the timesteps, falling from at most ``num_train_timesteps`` to above 0; the last step leads to no noise.
        num_train_timesteps: the timestep of pure noise.
    """

    _compatibles = [FlowMatchEulerDiscreteScheduler.__name__]  # noqa: RUF012  (as diffusers has it)

    @register_to_config
    def __init__(self, stated: Sequence[float], num_train_timesteps: int = 1000) -> None:
        super().__init__(num_train_timesteps=num_train_timesteps)

    @override
    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        timesteps: Sequence[float] | None = None,
    ) -> None:
        """Set the stated timesteps; what the pipeline would choose counts by its number alone.

        Raises:
            SettingsError: another number of steps is asked for.
        """
        stated = self.config.stated
        asked = next((len(each) for each in (timesteps, sigmas) if each is not None), num_inference_steps)
        if asked != len(stated):
            raise SettingsError(
                f"steps {asked}: the generator is loaded with {len(stated)} timesteps, which are all of its steps; ask "
                f"for {len(stated)}"
            )
        super().set_timesteps(sigmas=[each / self.config.num_train_timesteps for each in stated], device=device)
