"""The composition classifier C: entity maps -> composition."""

from cvg.classifier.config import ClassifierConfig
from cvg.classifier.model import CompositionClassifier, group_log_probs

__all__ = ["ClassifierConfig", "CompositionClassifier", "group_log_probs"]
