"""Frozen text-to-video models behind one small interface."""

from cvg.generators.base import Conditioning, Generator
from cvg.generators.registry import load_generator, wrap_pipeline

__all__ = ["Conditioning", "Generator", "load_generator", "wrap_pipeline"]
