"""Frozen text-to-video models behind one small interface."""

from cvg.generators.base import Conditioning, Generator
from cvg.generators.loading import Dtype, Loading, load_generator
from cvg.generators.registry import wrap_pipeline

__all__ = ["Conditioning", "Dtype", "Generator", "Loading", "load_generator", "wrap_pipeline"]
