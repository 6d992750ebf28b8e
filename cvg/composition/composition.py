"""A prompt with the relations between entities that it states, and the same prompt gone wrong (p-)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import Formatter

from cvg.common.errors import PromptError


@dataclass(frozen=True)
class Entity:
    """A noun phrase of the prompt, without its determiner: ``phrase == prompt[start:end]``."""

    phrase: str
    start: int
    end: int


@dataclass(frozen=True)
class Relation:
    """A label and what it holds between.

    Attributes:
        label: name of the label.
        wording: the words that state it, as they stand in the prompt: ``prompt[start:end]``. Empty, with
            ``start == end``, where the label was given by hand and the prompt has no known wording of it.
        start: first character of the wording.
        end: one past its last character.
        entities: (subject,) or (subject, object).
    """

    label: str
    wording: str
    start: int
    end: int
    entities: tuple[Entity, ...]


@dataclass(frozen=True)
class Composition:
    """A prompt, and the relations between entities that it states (at least one).

    Attributes:
        prompt: the text.
        relations: what it states.
        left_out: what it may state besides and could not be read, one reason each.
        unused: the parts of it that no relation uses, and that tell more than time, light, camera, style or quality.
    """

    prompt: str
    relations: tuple[Relation, ...]
    left_out: tuple[str, ...] = field(default=(), compare=False)
    unused: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        assert self.relations
        for relation in self.relations:
            assert self.prompt[relation.start : relation.end] == relation.wording, relation
            for entity in relation.entities:
                assert self.prompt[entity.start : entity.end] == entity.phrase, entity

    @property
    def entities(self) -> tuple[Entity, ...]:
        """Every entity once, in order of appearance in the prompt."""
        unique = {entity for relation in self.relations for entity in relation.entities}
        return tuple(sorted(unique, key=lambda entity: (entity.start, entity.end)))


Span = tuple[int, int]


def compose(template: str, entities: Sequence[str], wordings: Sequence[str]) -> tuple[str, list[Span], list[Span]]:
    """Fill a template such as ``"a {e0} {r0} a {e1}"``.

    Args:
        template: prompt with ``{e0}``, ``{e1}``, ... for entities and ``{r0}``, ... for wordings, each exactly once.
        entities: entity phrases.
        wordings: relation wordings.

    Returns:
        The prompt, and the character span of every entity and of every wording.

    Raises:
        PromptError: a placeholder is unknown, missing or repeated.
    """
    values = {f"e{i}": phrase for i, phrase in enumerate(entities)}
    values |= {f"r{i}": wording for i, wording in enumerate(wordings)}
    prompt, spans = "", {}
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise PromptError(f"template {template!r}: {error}") from error
    for text, name, _, _ in pieces:
        prompt += text
        if name is None:
            continue
        if name not in values or name in spans:
            reason = "appears twice" if name in spans else f"has no value (known: {', '.join(values)})"
            raise PromptError(f"template {template!r}: {{{name}}} {reason}")
        spans[name] = (len(prompt), len(prompt) + len(values[name]))
        prompt += values[name]
    missing = [name for name in values if name not in spans]
    if missing:
        raise PromptError(f"template {template!r}: has no {{{missing[0]}}} for {values[missing[0]]!r}")
    return prompt, [spans[f"e{i}"] for i in range(len(entities))], [spans[f"r{i}"] for i in range(len(wordings))]


def build(
    template: str,
    entities: Sequence[str],
    relations: Sequence[tuple[str, Sequence[int]]],
    wordings: Sequence[str],
) -> Composition:
    """Build a composition from its parts, with no parsing.

    Args:
        template: see :func:`compose`.
        entities: entity phrases.
        relations: per relation its label and the indices of its entities: (subject,) or (subject, object).
        wordings: one wording per relation.

    Raises:
        PromptError: the template does not fit, or there are not as many wordings as relations.
    """
    if len(relations) != len(wordings) or not relations:
        raise PromptError(
            f"template {template!r}: {len(relations)} relations and {len(wordings)} wordings; give one each"
        )
    prompt, entity_spans, wording_spans = compose(template, entities, wordings)
    found = [Entity(phrase, *span) for phrase, span in zip(entities, entity_spans, strict=True)]
    return Composition(
        prompt,
        tuple(
            Relation(label, wording, *span, tuple(found[i] for i in indices))
            for (label, indices), wording, span in zip(relations, wordings, wording_spans, strict=True)
        ),
    )


def template_of(composition: Composition) -> str:
    """The template that, filled with a composition's parts, is its prompt: the inverse of :func:`compose`.

    Returns:
        The prompt with ``{e0}``, ... for ``composition.entities`` and ``{r0}``, ... for the wordings of
        ``composition.relations``, each in order.

    Raises:
        PromptError: the parts overlap: two relations share their words, or a wording holds an entity.
    """
    parts = [(entity.start, entity.end, f"{{e{i}}}") for i, entity in enumerate(composition.entities)]
    parts += [(relation.start, relation.end, f"{{r{i}}}") for i, relation in enumerate(composition.relations)]
    template, at = "", 0
    for start, end, name in sorted(parts):
        if start < at:
            raise PromptError(
                f"prompt {composition.prompt!r}: {composition.prompt[start:end]!r} is part of two things that it "
                "states, so no template has it; state each in words of its own"
            )
        template += _escaped(composition.prompt[at:start]) + name
        at = end
    return template + _escaped(composition.prompt[at:])


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
