"""Judges, which say what a finished video shows, and the rules they go by."""

from cvg.judging.base import Frames, Judge, Reading
from cvg.judging.registry import load_judge

__all__ = ["Frames", "Judge", "Reading", "load_judge"]
