"""Words of a prompt that state a label."""

from __future__ import annotations

from dataclasses import dataclass

from cvg.composition.labels import Label


@dataclass(frozen=True)
class Match:
    """Words that state a label: ``prompt[start:end]``; ``start == end`` for a label given by hand that no words state.

    Attributes:
        label: the label.
        start: first character.
        end: one past the last character.
        places: the words that are the label's own, and no entity's.
        verb: the verb among the words before ``end``, or None.
        literal: whether it is a wording as the label set has it.
        sure: whether it can be nothing else, so that an entity that is missing is an error.
    """

    label: Label
    start: int
    end: int
    places: tuple[int, ...] = ()
    verb: int | None = None
    literal: bool = True
    sure: bool = True
