"""The composition classifier C: entity maps -> composition.

Axes of tensors in this package: B samples, S guided steps, L tapped layers, A attention heads, K entity slots of a
relation, F latent frames, H and W rows and columns of latent tokens, Y labels, D features, E the joint text space of a
frozen VLM, R rank of the anchored head's read-out, Q queries and N tokens of the aggregator's attention.
"""

from cvg.classifier.competition import group_log_probs
from cvg.classifier.config import ClassifierConfig
from cvg.classifier.model import CompositionClassifier

__all__ = ["ClassifierConfig", "CompositionClassifier", "group_log_probs"]
