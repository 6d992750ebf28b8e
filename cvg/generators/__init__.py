"""Frozen text-to-video models behind one small interface."""

from cvg.generators.base import Conditioning, Generator
from cvg.generators.loading import Dtype, Offload, load_generator
from cvg.generators.registry import wrap_pipeline

__all__ = ["Conditioning", "Dtype", "Generator", "Offload", "load_generator", "wrap_pipeline"]
