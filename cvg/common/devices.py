"""Devices by their names."""

from __future__ import annotations

import torch

from cvg.common.errors import SettingsError


def find_device(name: str) -> torch.device:
    """The device of a name. Raises SettingsError for one that this machine does not have."""
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"device {name}: cannot be used ({str(error).splitlines()[0]}); use cpu, or a machine and a PyTorch that "
            "have it"
        ) from error
