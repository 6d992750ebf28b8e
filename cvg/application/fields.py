"""The fields in which what a prompt asks for can be corrected: label, subject and object of each relation in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import gradio as gr

from cvg.application.understanding import Said
from cvg.composition import LabelSet

MOST_RELATIONS: Final = 6
"""That can be corrected in one prompt."""
MOST_CHARACTERS: Final = 2000
"""Of a prompt, and of a field."""
NONE: Final = "(none)"
"""In the field of a label, for a relation that is not there."""


def said_in(fields: Sequence[str | None]) -> list[Said]:
    """The relations in the fields."""
    texts = [str(value)[:MOST_CHARACTERS] if value and value != NONE else "" for value in fields]
    return [Said(*texts[at : at + 3]) for at in range(0, len(texts), 3)]


def fields_of(said: Sequence[Said], known: Sequence[str], labels: LabelSet, keep: bool) -> list[Any]:
    """The fields with what they offer.

    Args:
        said: the relations.
        known: phrases that may be entities.
        labels: the label set.
        keep: leave in the fields what is there, as more may have been chosen meanwhile.
    """
    fields: list[Any] = []
    for one in [*said, *[Said()] * MOST_RELATIONS][:MOST_RELATIONS]:
        both = not one.label or one.label not in labels or labels[one.label].has_object
        values = [one.label or NONE, one.subject or None, one.object or None]
        given = [{} if keep else {"value": value} for value in values]
        fields.append(gr.Dropdown([NONE, *labels.names], **given[0]))
        fields.append(gr.Dropdown(known, **given[1]))
        fields.append(gr.Dropdown(known, visible=both, **given[2]))
    return fields
