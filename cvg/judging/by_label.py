"""Several judges as one: each label is read by the first that can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cvg.composition import Composition, Label, Relation
from cvg.judging.base import Frames, Judge, Reading


class ByLabel(Judge):
    """Asks of each relation the first judge that can read its label.

    Args:
        judges: each with what says whether it can read a label. A judge must know all labels that it can read.
        label_of: a label by its name; an error where it is unknown.
    """

    def __init__(
        self, judges: Sequence[tuple[Judge, Callable[[Label], bool]]], label_of: Callable[[str], Label]
    ) -> None:
        self.judges, self.label_of = tuple(judges), label_of

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos. What no judge can read is left open.

        Problems are those that any judge tells; tracks those of the first that has some.

        Raises:
            UserError: what one of the judges raises.
        """
        whose = [[self._judge_of(relation) for relation in composition.relations] for composition in asked]
        readings = [Reading((None,) * len(composition.relations)) for composition in asked]
        for number, (judge, _) in enumerate(self.judges):
            rows = [row for row, judges in enumerate(whose) if number in judges]
            if not rows:
                continue
            parts = [
                replace(asked[row], relations=tuple(_where(asked[row].relations, whose[row], number))) for row in rows
            ]
            found = judge([videos[row] for row in rows], parts)
            for row, reading in zip(rows, found, strict=True):
                places = [i for i, judge_of in enumerate(whose[row]) if judge_of == number]
                readings[row] = _with(readings[row], reading, places)
        return readings

    def _judge_of(self, relation: Relation) -> int | None:
        label = self.label_of(relation.label)
        return next((number for number, (_, serves) in enumerate(self.judges) if serves(label)), None)


def _where(relations: Sequence[Relation], judges: Sequence[int | None], number: int) -> list[Relation]:
    return [relation for relation, judge in zip(relations, judges, strict=True) if judge == number]


def _with(all_of_it: Reading, part: Reading, places: Sequence[int]) -> Reading:
    """A reading with what a judge says of some of its relations."""
    labels, found, confidence = list(all_of_it.labels), list(all_of_it.found), list(all_of_it.confidence)
    for at, place in enumerate(places):
        labels[place], found[place], confidence[place] = part.labels[at], part.found[at], part.confidence[at]
    problems = dict.fromkeys((*all_of_it.problems, *part.problems))
    tracks = all_of_it.tracks or part.tracks
    return Reading(tuple(labels), tuple(problems), tuple(found), tuple(confidence), tracks)
