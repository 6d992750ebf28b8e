"""What a classifier sees in stored shards, as parts of a page: which maps tell the label, and single records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cvg.classifier import CompositionClassifier
from cvg.common.errors import DataError, SettingsError
from cvg.common.fingerprint import same_generator
from cvg.probing.probe import Probe, TooFewVideos
from cvg.reporting.page import Section
from cvg.reporting.views import Part, probe_part, sample_part, weights_part
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo
from cvg.shards.stream import read_records


def read_by(classifier: CompositionClassifier | None, stored: ShardInfo, folder: Path) -> ShardInfo:
    """The part of the shards that a classifier reads; all of them when there is none.

    Raises:
        DataError: it reads what they do not hold.
    """
    if classifier is None:
        return stored
    config = classifier.config
    problems = {
        "another generator": not same_generator(config.generator, stored.generator),
        f"heads {config.heads}": config.heads != stored.heads,
        f"layers {config.layers}": not set(config.layers) <= set(stored.layers),
        f"noise levels {config.sigmas}": not set(config.sigmas) <= set(stored.sigmas),
        f"maps of {config.grid}": config.grid != stored.grid,
        "other labels": classifier.labels != stored.label_set,
    }
    for problem, found in problems.items():
        if found:
            raise DataError(
                f"shards {folder}: the classifier reads {problem}; give the shards that it was trained on, or look at "
                "them without a classifier"
            )
    return replace(stored, layers=config.layers, sigmas=config.sigmas)


def choose(found: Sequence[Record], keys: Sequence[str], indices: Sequence[int], where: str) -> list[Record]:
    """Records by key and by position; the first of each label group when neither is given.

    Raises:
        SettingsError: one is not there.
    """
    by_key = {record.key: record for record in found}
    for key in keys:
        if key not in by_key:
            raise SettingsError(f"sample {key!r}: not among {where}; there are {', '.join(list(by_key)[:5])}, ...")
    for index in indices:
        if not 0 <= index < len(found):
            raise SettingsError(f"index {index}: {where} are numbered 0 to {len(found) - 1}; choose one of these")
    if keys or indices:
        return [by_key[key] for key in keys] + [found[index] for index in indices]
    return list({record.meta["group"]: record for record in reversed(found)}.values())[::-1]


def probed(shards: Path, split: str) -> Part:
    """Which steps, layers and heads tell the label, by linear probes on all records of a split.

    Raises:
        TooFewVideos: no label group has enough videos for a probe to be trained and judged.
        DataError: the split has no records, or they cannot be read.
    """
    info = ShardInfo.load(shards)
    return probe_part(Probe(read_records(shards, [split]), info.label_set), info)


def seen(
    shards: Path,
    classifier: CompositionClassifier | None,
    split: str,
    keys: Sequence[str] = (),
    indices: Sequence[int] = (),
    only: tuple[int | None, int | None] = (None, None),
) -> list[Part]:
    """What the classifier weighs, if there is one, and each of some records as it sees it; as parts of a page.

    Args:
        shards: folder of the shards.
        classifier: what is to be shown; the maps alone when None.
        split: where the records are.
        keys: records to show, by key.
        indices: the same, by position in the split; the first of each label group when neither is given.
        only: numbers of a layer and a head whose maps are shown on their own too, None for no such.

    Raises:
        SettingsError: the classifier reads what the shards do not hold, or a record, layer or head is not there.
    """
    info = read_by(classifier, ShardInfo.load(shards), shards)
    for what, number, available in (("layer", only[0], info.layers), ("head", only[1], info.heads)):
        if number is not None and number not in available:
            raise SettingsError(f"{what} {number}: not among the {what}s read here, {available}; choose one of these")
    chosen = choose(read_records(shards, [split], info), keys, indices, f"the {split} records of {shards}")
    weights = [] if classifier is None else [weights_part(classifier)]
    return weights + [sample_part(record, info, classifier, only) for record in chosen]


def inspection_sections(shards: Path, classifier: CompositionClassifier) -> list[Section]:
    """For the page: which maps of the training records tell the label, and some validation records as they are seen."""
    try:
        which = probed(shards, "train").section()
    except TooFewVideos as error:
        which = {"title": "Which maps tell the label", "note": str(error)}
    return [which, *(part.section() for part in seen(shards, classifier, "val"))]
