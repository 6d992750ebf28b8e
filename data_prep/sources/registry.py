"""Finds a data set's reader by its name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass

from cvg.common.errors import SettingsError
from cvg.composition import LabelSet
from data_prep.sources.base import Found, Reader, Reject
from data_prep.sources.files import Root


@dataclass(frozen=True)
class Source:
    """A data set, or a form that many have.

    Attributes:
        reader: module of this package and function in it, imported when it is asked for.
        what: the data set, in words.
        licence: the terms that it is under, as far as they are the same for all of it; empty where nobody can know.
    """

    reader: str
    what: str
    licence: str = ""

    def read(self, root: Root, labels: LabelSet) -> Iterable[Found | Reject]:
        """See `data_prep.sources.base.Reader`."""
        found: Reader = pkgutil.resolve_name(f"data_prep.sources.{self.reader}")
        return found(root, labels)


SOURCES: dict[str, Source] = {
    "captioned": Source("captioned.read", "videos with captions: csv, parquet, jsonl, or tars of both"),
    "vidor": Source("vidor.vidor", "VidOR: relations with spans, and boxes", "CC-BY-SA-4.0"),
    "vidvrd": Source("vidor.vidvrd", "ImageNet-VidVRD: relations with spans, and boxes"),
    "vidstg": Source("vidstg.read", "VidSTG: relations of VidOR, in sentences that people wrote", "CC-BY-SA-4.0"),
    "something-something-v2": Source("something.read", "Something-Something v2: what hands do", "research only"),
    "something-else": Source("something.with_boxes", "the same with the boxes of Something-Else", "research only"),
    "coco": Source("coco.read", "TAO, and any tracks of COCO's form"),
    "mevis": Source("expressions.read", "MeViS: sentences and masks", "CC-BY-NC-SA-4.0"),
    "ref-youtube-vos": Source("expressions.read", "Ref-YouTube-VOS: sentences and masks"),
    "action-genome": Source("action_genome.read", "Action Genome: where things are around a person"),
}
"""Name -> data set."""


def find(name: str) -> Source:
    """The data set of a name. Raises SettingsError for an unknown one, listing the known."""
    if name not in SOURCES:
        raise SettingsError(f"source {name!r}: unknown; known: {', '.join(SOURCES)}")
    return SOURCES[name]
