"""What makes it doubtful, before anything is sampled, that guidance will lead to what is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cvg.common.errors import DifferenceError
from cvg.common.sizes import Size
from cvg.composition import Composition, Entity
from cvg.generators.vocabulary import vocabulary_warnings
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.stated import silent_about


def require_as_trained(sampler: GuidedSampler, steps: int, size: Size | None, guidance_scale: float | None) -> None:
    """Raise DifferenceError where a generator is loaded or called otherwise than in the classifier's training."""
    if found := _unlike_training(sampler, steps, size, guidance_scale):
        raise DifferenceError(f"{'; '.join(found)}; load and call it as it was, or train with it as it is")


def namesakes(asked: Sequence[Composition]) -> list[str]:
    """One line for each prompt of which two entities are called the same, word by word."""
    lines: dict[str, None] = {}
    for composition in asked:
        prompt = composition.prompt
        spans = {(_beginning(composition, entity), entity.end) for entity in composition.entities}
        # "dog" within "black dog", of which something else is said, is the same dog.
        whole = [(a, b) for a, b in spans if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in spans)]
        names = Counter(prompt[start:end].casefold() for start, end in whole)
        for name in (name for name, count in names.items() if count > 1):
            lines[
                f"prompt {prompt!r}: several entities are called {name!r}, and maps tell them apart by their words: "
                "guidance may take one for the other; call them differently, by a colour for instance"
            ] = None
    return list(lines)


def _beginning(composition: Composition, entity: Entity) -> int:
    """Where an entity's name begins: at the attribute before it, if one is said of it."""
    prompt = composition.prompt
    said = [each for each in composition.relations if each.entities == (entity,) and each.wording]
    before = [each for each in said if each.end <= entity.start and not prompt[each.end : entity.start].strip()]
    return min((each.start for each in before), default=entity.start)


def _unlike_training(sampler: GuidedSampler, steps: int, size: Size | None, guidance_scale: float | None) -> list[str]:
    found = [sampler.differing] if sampler.differing else []
    return found + sampler.call_differences(steps, size, guidance_scale)


def cautions(
    sampler: GuidedSampler,
    asked: Sequence[Composition],
    ruled: bool,
    steps: int,
    size: Size | None = None,
    guidance_scale: float | None = None,
) -> list[str]:
    """What is doubtful of generator, classifier and prompts, one line each.

    Words that the generator does not know, entities of one name, what differs from the classifier's training, and
    labels that it was never shown.

    Args:
        sampler: generator, and the classifier that is to guide it.
        asked: what prompts ask for.
        ruled: rules are added to the classifier: labels that they say nothing of are told too.
        steps: denoising steps.
        size: of the videos; the one the classifier was trained for when None.
        guidance_scale: of classifier-free guidance; the classifier's own when None.

    Raises:
        PromptError: the generator knows no word of an entity.
    """
    generator, classifier = sampler.generator, sampler.classifier
    warnings = vocabulary_warnings(generator, asked) + namesakes(asked)
    if isinstance(classifier, Rules):
        return warnings
    names = dict.fromkeys(relation.label for composition in asked for relation in composition.relations)
    warnings += _unlike_training(sampler, steps, size, guidance_scale)
    warnings += [
        f"the classifier has never seen the label {name!r}: no record of its training showed it, so what it guides "
        "towards is a guess"
        for name in names
        if classifier.config.never_seen(name)
    ]
    return warnings + (silent_about(classifier.labels, asked) if ruled else [])
