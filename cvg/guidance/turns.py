"""Which prompts are guided at which noise levels."""

from __future__ import annotations

from cvg.classifier import CompositionClassifier
from cvg.common.errors import SettingsError
from cvg.composition import RelationBatch
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import Rules


def turns(classifier: CompositionClassifier | Rules, relations: RelationBatch, config: GuidanceConfig) -> list[range]:
    """For each prompt, the noise levels at which it is guided, as indices.

    These are the noisiest ones. Where ``config.later`` names the groups of all of a prompt's labels, the prompt is
    guided as many levels later as it says (the fewest, of several groups), or as there are levels to spare: which
    entity has which colour is decided after the entities' places. What a prompt is batched with changes nothing.

    Args:
        classifier: what guides.
        relations: of the prompts.
        config: says how many levels are to be guided, with what the classifier prefers filled in.

    Raises:
        SettingsError: ``later`` names a group that the label set does not have.
    """
    levels, count, later = len(classifier.config.sigmas), config.guided_steps, config.later
    assert count is not None and later is not None
    known = classifier.labels.groups
    if unknown := [group for group in later if group not in known]:
        raise SettingsError(f"guidance later {unknown[0]!r}: no group of the labels, which are {', '.join(known)}")
    starts = [max(0, levels - count)] * (max(relations.prompt_R, default=-1) + 1)
    for prompt, target in zip(relations.prompt_R, relations.target_R, strict=True):
        starts[prompt] = min(starts[prompt], later.get(classifier.labels.labels[target].group, 0))
    return [range(start, min(start + count, levels)) for start in starts]
