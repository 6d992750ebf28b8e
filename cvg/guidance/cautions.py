"""What makes it doubtful, before anything is sampled, that guidance will lead to what is asked."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.common.errors import DifferenceError
from cvg.composition import Composition
from cvg.generators.vocabulary import vocabulary_warnings
from cvg.guidance.rules import Rules, silent_about
from cvg.guidance.sampler import GuidedSampler


def require_as_trained(sampler: GuidedSampler) -> None:
    """Raise DifferenceError where a generator is loaded otherwise than in the classifier's training."""
    if sampler.differing:
        raise DifferenceError(f"{sampler.differing}; load it as it was, or train with it as it is")


def cautions(sampler: GuidedSampler, asked: Sequence[Composition], ruled: bool) -> list[str]:
    """Words that the generator does not know, how it differs from the classifier's, and labels that were never shown.

    Args:
        sampler: generator, and the classifier that is to guide it.
        asked: what prompts ask for.
        ruled: rules are added to the classifier: labels that they say nothing of are told too.

    Raises:
        PromptError: the generator knows no word of an entity.
    """
    generator, classifier = sampler.generator, sampler.classifier
    warnings = vocabulary_warnings(generator, asked)
    if isinstance(classifier, Rules):
        return warnings
    names = dict.fromkeys(relation.label for composition in asked for relation in composition.relations)
    warnings += [sampler.differing] if sampler.differing else []
    warnings += [
        f"the classifier has never seen the label {name!r}: no record of its training showed it, so what it guides "
        "towards is a guess"
        for name in names
        if classifier.config.never_seen(name)
    ]
    return warnings + (silent_about(classifier.labels, asked) if ruled else [])
