"""CVG: compositional video guidance, at inference time, for frozen text-to-video models.

Example:
    >>> import cvg
    >>> classifier = cvg.CompositionClassifier.from_pretrained("shapes-classifier")
    >>> sampler = cvg.GuidedSampler(cvg.load_generator("shapes-wan"), classifier)
    >>> result = sampler(["a red circle to the left of a blue square"], seeds=[0])
    >>> result.video_BCFHW.shape
    torch.Size([1, 3, 13, 64, 64])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvg.classifier.model import CompositionClassifier
    from cvg.composition import LabelSet, parse
    from cvg.generators import load_generator
    from cvg.guidance.guided_pipeline import guide
    from cvg.guidance.modular import CompositionGuidanceBlock
    from cvg.guidance.sampler import GuidedSampler

__version__ = "0.1.0"

__all__ = [
    "CompositionClassifier",
    "CompositionGuidanceBlock",
    "GuidedSampler",
    "LabelSet",
    "guide",
    "load_generator",
    "parse",
]

_HOMES = {
    "CompositionClassifier": "cvg.classifier.model",
    "CompositionGuidanceBlock": "cvg.guidance.modular",
    "GuidedSampler": "cvg.guidance.sampler",
    "LabelSet": "cvg.composition",
    "guide": "cvg.guidance.guided_pipeline",
    "load_generator": "cvg.generators",
    "parse": "cvg.composition",
}


def __getattr__(name: str) -> Any:
    """A public name, from where it lives: what it needs is imported with its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cvg' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
