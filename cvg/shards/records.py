"""What one training sample is, and its bytes.

A record holds the entity maps of one (video, relation) pair under its two prompts, p+ and p-. Its bytes are two members
of a tar (:mod:`cvg.shards.tars`), ``{key}.maps.safetensors`` and ``{key}.json``, which holds the SHA-256 of the maps.
Nothing here can execute code on reading: safetensors and JSON only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Any, Final, Literal

import safetensors.torch
import torch
from pydantic import Field, StrictBool
from torch import Tensor

from cvg.common.errors import DataError
from cvg.common.typed import read
from cvg.common.typed import record as typed

SCHEMA: Final = 2
MOST_META: Final = 1 << 20
"""Bytes that the JSON of a record can have."""
MAPS, META = "maps.safetensors", "json"
_AXES = "SLAKFHW"
# What the rest of CVG reads from `meta`; writers may add more.
_REQUIRED_META = ("group", "prompt_positive", "prompt_negative", "negative_label")


@dataclass(eq=False)
class Record:
    """Entity maps of one video and one relation under p+ and p-.

    Attributes:
        key: unique name, of letters, digits, ``_`` and ``-`` (WebDataset splits a member's name at the first dot).
        positive_SLAKFHW: float16 attention probabilities under p+.
        negative_SLAKFHW: the same under p-.
        present: for each of the K entity slots, whether the relation has such an entity; an absent slot is all zeros.
        label: the true composition label, the same for both prompts.
        meta: JSON-able provenance: group, prompts, the wrong label of p-, entity spans, steps, sigmas, PSNR, source...
    """

    key: str
    positive_SLAKFHW: Tensor
    negative_SLAKFHW: Tensor
    present: tuple[bool, ...]
    label: str
    meta: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise DataError unless the record is well formed."""

        def bad(reason: str) -> DataError:
            return DataError(f"record {self.key!r}: {reason}; write the shards again")

        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", self.key):
            raise bad("the key must be 1 to 80 letters, digits, _ or -")
        for name, maps in (("positive", self.positive_SLAKFHW), ("negative", self.negative_SLAKFHW)):
            if maps.dtype != torch.float16 or maps.ndim != len(_AXES):
                raise bad(
                    f"{name} maps are {maps.dtype} of {maps.ndim} axes, expected float16 of {len(_AXES)} ({_AXES})"
                )
            if maps.shape != self.positive_SLAKFHW.shape:
                raise bad("positive and negative maps differ in shape")
            if not maps.numel():
                raise bad(f"{name} maps are empty")
            if not torch.isfinite(maps).all():
                raise bad(f"{name} maps hold values that are not finite")
            least, most = (float(bound) for bound in maps.aminmax())
            if least < 0 or most > 1:
                raise bad(f"{name} maps hold values from {least:g} to {most:g}, but they are probabilities, of [0, 1]")
        if len(self.present) != self.positive_SLAKFHW.shape[3]:
            raise bad(f"{len(self.present)} flags in `present` for {self.positive_SLAKFHW.shape[3]} entity slots")
        if not any(self.present):
            raise bad("no entity is present")
        absent = [slot for slot, here in enumerate(self.present) if not here]
        if absent and (self.positive_SLAKFHW[:, :, :, absent].any() or self.negative_SLAKFHW[:, :, :, absent].any()):
            raise bad("the maps of an absent entity slot are not zero")
        missing = [name for name in _REQUIRED_META if name not in self.meta]
        if missing:
            raise bad(f"meta lacks {', '.join(missing)}")


@typed
class _Header:
    """The JSON of a record."""

    schema: Annotated[Literal[2], Field(description=f"{SCHEMA}, the version that is read here")]
    key: str
    label: str
    present: list[StrictBool]
    maps: str  # SHA-256 of the other member
    meta: dict[str, Any]


def most_maps(shape: Sequence[int]) -> int:
    """Bytes that a record's maps of a shape can have: two of float16, and a header."""
    return 2 * 2 * prod(shape) + (1 << 12)


def encode(record: Record) -> dict[str, bytes]:
    """The tar members of a record, by extension. Equal records give equal bytes.

    Raises:
        DataError: the record is malformed, or its meta is not JSON-able or too long.
    """
    record.check()
    both = {"positive": record.positive_SLAKFHW.contiguous(), "negative": record.negative_SLAKFHW.contiguous()}
    maps = safetensors.torch.save(both)
    header: dict[str, Any] = {"schema": SCHEMA, "key": record.key, "label": record.label, "meta": record.meta}
    header |= {"present": list(record.present), "maps": hashlib.sha256(maps).hexdigest()}
    try:
        text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"record {record.key!r}: meta is not JSON ({error}); store plain values only") from error
    if len(text) > MOST_META:
        raise DataError(f"record {record.key!r}: {len(text)} bytes of JSON; store at most {MOST_META}")
    return {MAPS: maps, META: text}


def decode(members: dict[str, Any]) -> Record:
    """The record of tar members as `encode` gives them (WebDataset's ``__key__`` and ``__url__`` may be there too).

    Raises:
        DataError: a member is missing or unreadable, the schema is another one, or the record is malformed.
    """
    name = f"record {members.get('__key__', '?')!r} of {members.get('__url__', 'memory')}"
    if MAPS not in members or META not in members:
        raise DataError(f"{name}: expected the members .{MAPS} and .{META}; this is not a CVG shard")
    stored = _json(members)
    if isinstance(stored, dict) and stored.get("schema", SCHEMA) != SCHEMA:
        raise DataError(f"{name}: schema {stored['schema']}, this version reads {SCHEMA}; write the shards again")
    header = read(_Header, stored, f"{name}: damaged", "write the shards again")
    if hashlib.sha256(members[MAPS]).hexdigest() != header.maps:
        raise DataError(f"{name}: damaged: its maps are not those that were written; write the shards again")
    try:
        maps = safetensors.torch.load(members[MAPS])
        positive, negative = maps["positive"], maps["negative"]
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise DataError(f"{name}: damaged ({type(error).__name__}: {error}); write the shards again") from error
    record = Record(header.key, positive, negative, tuple(header.present), header.label, header.meta)
    if members.get("__key__", record.key) != record.key:
        raise DataError(f"{name}: its JSON says the key is {record.key!r}; write the shards again")
    record.check()
    return record


def label_of(members: dict[str, Any]) -> str:
    """The label of undecoded tar members, without their maps. Raises DataError as `decode` does."""
    header = _json(members)
    label = header.get("label") if isinstance(header, dict) else None
    return label if isinstance(label, str) else decode(members).label  # says what is wrong


def _json(members: dict[str, Any]) -> Any:
    """The JSON member; None when it is none, for `read` to say so."""
    try:
        return json.loads(members[META])
    except (ValueError, RecursionError):
        return None
