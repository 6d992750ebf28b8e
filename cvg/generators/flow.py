"""Schedulers of flow matching: which are, their shift, and timesteps that are stated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

from cvg.common.errors import SettingsError

SHIFTS: Final = ("flow_shift", "shift")
"""What schedulers call the shift of their noise levels."""


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is one of flow matching."""
    config = scheduler.config
    return config.get("prediction_type", "flow_prediction") == "flow_prediction"


def shift_of_flow(scheduler: Any) -> float | None:
    """The shift of a flow-matching scheduler's noise levels; None where it has none, or one of a video's size."""
    config = scheduler.config
    if config.get("use_dynamic_shifting"):
        return None
    return next((float(config[key]) for key in SHIFTS if config.get(key) is not None), None)


def stated_steps(scheduler: Any) -> list[float] | None:
    """The timesteps that a scheduler has of its own; None where it makes them for a number of steps."""
    stated = scheduler.config.get("stated")
    return None if stated is None else [float(each) for each in stated]


def check_timesteps(timesteps: Sequence[float], most: float = math.inf) -> None:
    """Raise SettingsError unless timesteps fall, from at most ``most``, and all of them are above 0."""
    falling = all(later < earlier for earlier, later in itertools.pairwise(timesteps))
    if not timesteps or not falling or not all(math.isfinite(each) and 0 < each <= most for each in timesteps):
        within = "above 0" if most == math.inf else f"from {most:g} to above 0"
        raise SettingsError(f"timesteps {list(timesteps)}: give falling numbers {within}, such as 1000, 750, 500, 250")
