from .competition import group_log_probs as group_log_probs
from .config import ClassifierConfig as ClassifierConfig
from .model import CompositionClassifier as CompositionClassifier
