"""Suites: what an evaluation asks for, who judges it, and what counts as right."""

from cvg.evaluation.suites.base import CANDIDATES, Case, Score, Suite, SuiteSettings, scores
from cvg.evaluation.suites.registry import load_suite

__all__ = ["CANDIDATES", "Case", "Score", "Suite", "SuiteSettings", "load_suite", "scores"]
