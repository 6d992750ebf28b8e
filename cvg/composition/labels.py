"""Label sets: the compositions a classifier tells apart, as data."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cvg.common.errors import DataError, PromptError

SLOT_NAMES = ("subject", "object")
SLOTS = len(SLOT_NAMES)
"""K, the entity slots of a relation; one that relates fewer entities leaves the last ones absent."""
COUNTS = " or ".join(str(count) for count in range(1, SLOTS + 1))
SHIPPED = Path(__file__).parents[1] / "label_sets"


@dataclass(frozen=True)
class Label:
    """One composition label y.

    Attributes:
        name: unique name, e.g. ``"left of"``.
        group: the exclusive family it belongs to, e.g. ``"spatial"``.
        wordings: phrases that state it in a prompt; the first is the plainest.
        entities: how many entities it relates, 1 to :data:`SLOTS` (1: subject, 2: subject and object).
    """

    name: str
    group: str
    wordings: tuple[str, ...]
    entities: int

    @property
    def has_object(self) -> bool:
        """Whether it relates its subject to another entity."""
        return self.entities > 1


class LabelSet:
    """The ordered label set Y. A label's position is its class index.

    Args:
        groups: ``{group: {"entities": 1 to SLOTS, "labels": {name: [wording, ...]}}}``, as in the YAML files.

    Raises:
        DataError: a malformed entry, a repeated label or wording, or a group of fewer than two labels.
    """

    def __init__(self, groups: dict[str, Any]) -> None:
        self.labels: list[Label] = []
        for group, entry in groups.items():
            try:
                slots, labels = int(entry["entities"]), dict(entry["labels"])
            except (TypeError, KeyError, ValueError, OverflowError) as error:
                raise DataError(f"label group {group!r}: expected `entities: {COUNTS}` and `labels:`") from error
            if not 1 <= slots <= SLOTS:
                raise DataError(f"label group {group!r}: entities is {slots}, expected {COUNTS}")
            if len(labels) < 2:
                raise DataError(f"label group {group!r}: needs at least two labels, so that a wrong one can be drawn")
            for name, wordings in labels.items():
                if not isinstance(wordings, list) or not wordings or not all(isinstance(w, str) for w in wordings):
                    raise DataError(f"label {name!r}: expected a list of at least one wording")
                self.labels.append(Label(str(name), str(group), tuple(wordings), slots))
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
        shipped = {path.stem: path for path in SHIPPED.glob("*.yaml")}
        path = shipped.get(str(name), Path(name))
        try:
            groups = yaml.safe_load(path.read_text())
        except OSError as error:
            raise DataError(
                f"label set {name}: cannot be read ({error.strerror}); give a YAML file, or one that ships: "
                f"{', '.join(sorted(shipped))}"
            ) from error
        except yaml.YAMLError as error:
            raise DataError(f"label set {name}: not valid YAML ({error})") from error
        if not isinstance(groups, dict):
            raise DataError(f"label set {name}: expected a mapping of groups")
        return cls(groups)

    def to_dict(self) -> dict[str, Any]:
        """The mapping that ``LabelSet(...)`` takes, for JSON."""
        groups: dict[str, Any] = {}
        for label in self.labels:
            entry = groups.setdefault(label.group, {"entities": label.entities, "labels": {}})
            entry["labels"][label.name] = list(label.wordings)
        return groups

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
