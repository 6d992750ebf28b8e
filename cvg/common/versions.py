"""The software that results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

import cvg


def versions() -> dict[str, str]:
    """Of what figures and videos may depend on."""
    return {
        "cvg": cvg.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
    }
