"""Scores of the kept videos by other people's programs, each in an environment of its own."""

from cvg.evaluation.official.quality import Quality, quality, quality_scores
from cvg.evaluation.official.running import SIDES, Official, Scores, official, official_scores, read_score

__all__ = [
    "SIDES",
    "Official",
    "Quality",
    "Scores",
    "official",
    "official_scores",
    "quality",
    "quality_scores",
    "read_score",
]
