"""Label sets: the compositions a classifier tells apart, as data."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvg.common.errors import DataError, PromptError
from cvg.common.typed import MOST
from cvg.composition.label_form import (
    COUNTS,
    MIRRORS,
    SHIPPED,
    SLOT_NAMES,
    SLOTS,
    GroupForm,
    LabelForm,
    read_file,
    read_group,
)
from cvg.composition.patterns import expanded

if TYPE_CHECKING:
    from cvg.composition.lexicon import Lexicon

__all__ = ["COUNTS", "MIRRORS", "SHIPPED", "SLOTS", "SLOT_NAMES", "Label", "LabelSet"]


@dataclass(frozen=True)
class Label:
    """One composition label y.

    Two labels are equal when name, group, wordings and entities are: what a classifier is trained on. The rest says how
    sentences state the label and how videos show it.

    Attributes:
        name: unique name, e.g. ``"left of"``.
        group: the exclusive family it belongs to, e.g. ``"spatial"``.
        wordings: phrases that state it in a prompt; the first is the plainest.
        entities: how many entities it relates, 1 to :data:`SLOTS` (1: subject, 2: subject and object).
        category: the kind it is counted under, e.g. ``"motion"``; the group's name when empty.
        mirrors: by kind of mirror (:data:`MIRRORS`) the label that its image shows, where that is another one, or None
            where it shows none; see :meth:`image`.
        rule: the geometric rule by which tracks show it (:mod:`cvg.judging`), or None.
        question: a yes/no question about a video, with ``{subject}`` and ``{object}`` to fill in, or None.
        patterns: further ways in which sentences state it, over lemmas; see :mod:`cvg.composition.patterns`.
        bound: whether it is an attribute that a generator may give to another entity of the prompt: a colour, a
            material. Rules guide towards it (:mod:`cvg.guidance.stated`).
    """

    name: str
    group: str
    wordings: tuple[str, ...]
    entities: int
    category: str = field(default="", compare=False)
    mirrors: Mapping[str, str | None] = field(default_factory=dict, compare=False)
    rule: str | None = field(default=None, compare=False)
    question: str | None = field(default=None, compare=False)
    patterns: tuple[str, ...] = field(default=(), compare=False)
    bound: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "category", self.category or self.group)

    @property
    def has_object(self) -> bool:
        """Whether it relates its subject to another entity."""
        return self.entities > 1

    @property
    def mirror(self) -> str:
        """The label that the mirror image shows, left and right exchanged: the label itself where it tells no other."""
        return self.mirrors.get("horizontal") or self.name

    def image(self, axis: str) -> str | None:
        """The label that a mirror image shows, or None where it shows none that is known.

        What is not stated is the label itself. But where only a question tells whether a video shows it, left and right
        alone may be exchanged: backwards, or upside down, who opens a door need not be opening it.

        Args:
            axis: the kind of mirror, of :data:`MIRRORS`.
        """
        if axis in self.mirrors:
            return self.mirrors[axis]
        return None if self.question and not self.rule and axis != "horizontal" else self.name


class LabelSet:
    """The ordered label set Y. A label's position is its class index.

    Two sets are equal when their labels are, whatever is said of how they are read and shown.

    Args:
        groups: ``{group: {"entities": 1 to SLOTS, "labels": {name: [wording, ...]}}}``, as in the YAML files. A label
            may be a mapping of ``wordings``, ``mirror``, ``rule``, ``question`` and ``patterns``, a group may have a
            ``category``, ``words`` for its patterns, and be ``bound``.

    Raises:
        DataError: a malformed entry, a repeated label or wording, a group of fewer than two labels, or mirror images
            that do not go together.
    """

    def __init__(self, groups: dict[str, Any]) -> None:
        self.labels: list[Label] = []
        for name, entry in groups.items():
            group, forms = read_group(name, entry)
            self.labels += [_label(each, str(name), group, form) for each, form in forms.items()]
        if len(self.labels) > MOST:
            raise DataError(f"label set: {len(self.labels)} labels, more than the {MOST} that are read")
        self._check_unique("label", [label.name for label in self.labels])
        self._check_unique("wording", [wording for label in self.labels for wording in label.wordings])
        self._index = {label.name: i for i, label in enumerate(self.labels)}

    @staticmethod
    def _check_unique(what: str, values: list[str]) -> None:
        repeated = sorted(value for value, count in Counter(values).items() if count > 1)
        if repeated:
            raise DataError(f"label set: {what} {repeated[0]!r} appears twice; each must be unique")

    @classmethod
    def load(cls, name: str | Path) -> LabelSet:
        """Read a label set from a YAML file.

        Args:
            name: the file, or the name of a set that ships (:mod:`cvg.label_sets`): ``shapes``.

        Raises:
            DataError: it is missing or malformed.
        """
        groups = read_file(name)
        try:
            return cls(groups)
        except DataError as error:
            raise DataError(f"label set {name}: {error}") from error

    @classmethod
    def stored(cls, groups: dict[str, Any]) -> LabelSet:
        """A label set that shards or a classifier keep, complete.

        Files of before hold wordings alone. The rest is taken from the first set that ships which has labels of the
        same name and group and with a wording in common.

        Args:
            groups: as ``LabelSet(...)`` takes them.

        Raises:
            DataError: see there.
        """
        found = cls(groups)
        if any(label.rule or label.question or label.patterns or label.mirrors for label in found.labels):
            return found
        for path in sorted(SHIPPED.glob("*.yaml")):
            completed = [_completed(label, _shipped(path), found) for label in found.labels]
            if any(label.rule or label.question for label in completed):
                found.labels = completed
                break
        return found

    def to_dict(self) -> dict[str, Any]:
        """The mapping that ``LabelSet(...)`` takes, for JSON."""
        groups: dict[str, Any] = {}
        for label in self.labels:
            entry = groups.setdefault(label.group, {"entities": label.entities, "labels": {}})
            if label.category != label.group:
                entry["category"] = label.category
            if label.bound:
                entry["bound"] = True
            said: dict[str, Any] = {"mirror": dict(label.mirrors), "rule": label.rule, "question": label.question}
            said = {name: value for name, value in (said | {"patterns": list(label.patterns)}).items() if value}
            entry["labels"][label.name] = {"wordings": list(label.wordings), **said} if said else list(label.wordings)
        return groups

    def of_groups(self, groups: Sequence[str]) -> LabelSet:
        """The set with the labels of some groups alone, in its own order.

        Raises:
            DataError: a group that it does not have, or none.
        """
        known = self.to_dict()
        unknown = [name for name in groups if name not in known]
        if unknown or not groups:
            raise DataError(f"groups {unknown}: expected some of the label set's, which are {', '.join(known)}")
        return LabelSet({name: entry for name, entry in known.items() if name in groups})

    def extended(
        self, name: str, wordings: Sequence[str], group: str | None = None, entities: int | None = None
    ) -> LabelSet:
        """The set with one more label, the last of its group; the class indices of later groups move up.

        Args:
            name: of the new label.
            wordings: phrases that state it.
            group: where it goes; None: into the one group whose labels relate as many entities.
            entities: how many it relates; None: not known, and there is one group alone.

        Raises:
            PromptError: a label or wording that is in the set already, an unknown group, or not exactly one that fits.
        """
        for label in self.labels:
            taken = sorted({name, *wordings} & {label.name, *label.wordings})
            if taken:
                raise PromptError(f"new label {name!r}: {taken[0]!r} states label {label.name!r} already; use that one")
        groups = self.to_dict()
        group = group or self._group_of(entities)
        if group not in groups:
            raise PromptError(f"label group {group!r} is not in the label set; known: {', '.join(groups)}")
        groups[group]["labels"][name] = list(wordings)
        return LabelSet(groups)

    def _group_of(self, entities: int | None) -> str:
        fitting = [name for name, labels in self.groups.items() if entities in (None, labels[0].entities)]
        if len(fitting) == 1:
            return fitting[0]
        of = "" if entities is None else f" of {entities} {'entity' if entities == 1 else 'entities'}"
        if not fitting:
            raise PromptError(f"the label set has no group{of}; its groups: {', '.join(self.groups)}")
        raise PromptError(f"several groups{of} could take a new label; choose one: {', '.join(fitting)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.labels == other.labels

    def __hash__(self) -> int:
        return hash(tuple(self.labels))

    def __getitem__(self, name: str) -> Label:
        """The label of that name. Raises PromptError listing the known ones."""
        if name not in self._index:
            raise PromptError(f"label {name!r} is not in the label set; known: {', '.join(self._index)}")
        return self.labels[self._index[name]]

    @functools.cached_property
    def lexicon(self) -> Lexicon:
        """Which words may state which label."""
        from cvg.composition.lexicon import Lexicon  # only where prompts are read

        return Lexicon(self.labels)

    def index(self, name: str) -> int:
        """Class index of a label."""
        return self._index[self[name].name]

    @property
    def names(self) -> list[str]:
        """The labels' names, in order."""
        return [label.name for label in self.labels]

    @property
    def groups(self) -> dict[str, list[Label]]:
        """Labels by group, in order."""
        groups: dict[str, list[Label]] = {}
        for label in self.labels:
            groups.setdefault(label.group, []).append(label)
        return groups

    def group_indices(self, name: str) -> list[int]:
        """Class indices of the labels in the group of label ``name``."""
        group = self[name].group
        return [i for i, label in enumerate(self.labels) if label.group == group]

    def wrong(self, name: str, rng: random.Random) -> Label:
        """A label other than ``name``, drawn uniformly within its group (the composition of p-)."""
        label = self[name]
        return rng.choice([other for other in self.groups[label.group] if other.name != name])


@functools.cache
def _shipped(path: Path) -> LabelSet:
    return LabelSet.load(path)


def _completed(label: Label, known: LabelSet, among: LabelSet) -> Label:
    """A label with what a known set says of it beyond its wordings; of mirror images those that are among the set."""
    if label.name not in known:
        return label
    full = known[label.name]
    same = (full.group, full.entities) == (label.group, label.entities) and set(full.wordings) & set(label.wordings)
    if not same:
        return label
    mirrors = {axis: image if image in among else None for axis, image in full.mirrors.items()}
    return replace(full, wordings=label.wordings, mirrors=mirrors)


def _label(name: str, group: str, said: GroupForm, form: LabelForm) -> Label:
    patterns = tuple(expanded(pattern, said.words, f"label {name!r}") for pattern in form.patterns)
    shown = (form.mirrors, form.rule, form.question, patterns, said.bound)
    return Label(name, group, tuple(form.wordings), said.entities, said.category or "", *shown)
