"""Which prompts are guided at which noise levels."""

from __future__ import annotations

from cvg.classifier import CompositionClassifier
from cvg.composition import RelationBatch
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import LATER, Rules
from cvg.guidance.stated import attributes_alone


def turns(classifier: CompositionClassifier | Rules, relations: RelationBatch, config: GuidanceConfig) -> list[range]:
    """For each prompt, the noise levels at which it is guided, as indices: the noisiest ones.

    By rules, prompts that ask for attributes alone are guided two levels later, or as many later as there are levels to
    spare: which entity has which colour is decided after the entities' places. What a prompt is batched with changes
    nothing.

    Args:
        classifier: what guides.
        relations: of the prompts.
        config: says how many levels are to be guided, with what the classifier prefers filled in.
    """
    levels, count = len(classifier.config.sigmas), config.guided_steps
    assert count is not None
    first = min(LATER, max(0, levels - count)) if isinstance(classifier, Rules) else 0
    late = attributes_alone(classifier.labels, relations) if first else set()
    starts = [first if prompt in late else 0 for prompt in range(max(relations.prompt_R, default=-1) + 1)]
    return [range(start, min(start + count, levels)) for start in starts]
