"""The folder of the work: what it is for, how far it is, and what is written when all is done.

``run.json`` says what for, ``parts`` holds what is done and not packed, and ``shards.json`` is there, here and behind
the URL where the tars go to one, when all of it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError
from cvg.common.files import atomic, read_json, sweep, write_json
from cvg.composition import LabelSet
from cvg.generators import Dtype, Generator
from cvg.shards.shards import ShardInfo, files_of
from data_prep.inversion.latents import Settings
from data_prep.inversion.outcomes import RECORDS, Outcomes
from data_prep.inversion.packing import Packer
from data_prep.inversion.signatures import changed
from data_prep.inversion.stores import FILES, INFO, REJECTS, RUN, Here, There
from data_prep.manifest import Row

TAKEN = "taken"
"""The file in ``parts`` by which processes share the rows."""


class Folder:
    """The folder of the work.

    Args:
        rows: of the manifest.
        store: where the tars go, with the folder of the work.
        asked: what fixes the bytes of the shards, see :func:`asked_of`.
    """

    def __init__(self, rows: list[Row], store: Here, asked: dict[str, Any]) -> None:
        self.rows, self.store, self.asked = rows, store, asked
        self.path, self.parts = store.folder, store.folder / "parts"

    @property
    def finished(self) -> bool:
        """Whether all is done and packed."""
        return (self.path / INFO).exists()

    def begin(self, only: bool) -> None:
        """Note in ``run.json`` what the folder is for, or see that it is for the same, and what of it is done.

        Args:
            only: no other process is at work there.

        Raises:
            DataError: it is for other settings or videos, or what is behind the URL is.
        """
        noted = self.path / RUN
        if only:
            for folder in (self.path, self.parts):
                sweep(folder, older=0)
            self._agree()
        held = self.finished or bool(files_of(self.path)) or any(path.stat().st_size for path in self._records())
        other = "choose another folder or remove it"
        try:
            found = read_json(noted)
        except DataError as error:
            if held:
                raise DataError(
                    f"out {self.path}: holds shards of settings that are not known ({error}); {other}"
                ) from error
            found = {}
        same = found == self.asked
        if not same and (held or not only):
            raise DataError(f"out {self.path}: holds shards of other settings or videos; {other}")
        if self.finished:
            self._require_unchanged()
        elif only:
            if not same:
                shutil.rmtree(self.parts, ignore_errors=True)  # at most rejects, which others may not be
                write_json(noted, self.asked)
            self.store.put(RUN)
            self._begin_parts()

    def _agree(self) -> None:
        """See that what is behind a URL is of the same videos and settings, and whether it is finished."""
        if not isinstance(self.store, There):
            return
        noted, finished = self.store.noted(), self.store.finished()
        if noted != self.asked and (finished or self.store.sizes()):
            raise DataError(
                f"out {self.store.name}: holds shards of other settings or videos; choose another URL, or remove what "
                "is there"
            )
        if finished and not self.finished:
            self.store.take_over()
        elif self.finished and not finished:  # somebody removed it
            (self.path / INFO).unlink()

    def _records(self) -> Iterator[Path]:
        return self.parts.glob(f"*{RECORDS}")

    def _require_unchanged(self) -> None:
        try:
            files = read_json(self.path / FILES)
        except DataError:
            files = None
        files = files if isinstance(files, dict) else {}
        others = [row for row in self.rows if row.id in files and changed(row, files[row.id])]
        if others:
            raise DataError(
                f"out {self.store.name}: {len(others)} of its videos have changed since, {others[0].video} among them; "
                "choose another folder or remove it"
            )

    def _begin_parts(self) -> None:
        if self.parts.exists():
            done = self.packer().mend()
        else:
            done = bytes(len(self.rows))
            self.store.keep(())  # nobody knows of which rows they are
        with atomic(self.parts / TAKEN) as path:
            path.write_bytes(done)

    def packer(self) -> Packer:
        """What packs; of one process at a time."""
        return Packer(self.rows, self.store, self.parts)

    def close(self, outcomes: Outcomes, info: ShardInfo) -> None:
        """Write what is told of all rows, and last ``shards.json``."""
        rejects = outcomes.rejects
        lines = (json.dumps(rejects[number], ensure_ascii=False) + "\n" for number in sorted(rejects))
        with atomic(self.path / REJECTS) as path, path.open("w", errors="backslashreplace") as file:
            file.writelines(lines)
        files = {row.id: seen for row, seen in zip(self.rows, outcomes.signatures, strict=True)}
        write_json(self.path / FILES, files)
        for name in (REJECTS, FILES):
            self.store.put(name)
        info.save(self.parts)
        self.store.put_last(self.parts / INFO)

    def tidy(self) -> None:
        """Remove what was done before it was packed."""
        shutil.rmtree(self.parts, ignore_errors=True)


def asked_of(
    rows: Sequence[Row], model: Generator, labels: LabelSet, settings: Settings, dtype: Dtype
) -> dict[str, Any]:
    """What fixes the bytes of the shards, as JSON; of the rows their number and a digest."""
    plain = asdict(settings)
    for name, usual in (("fit", "crop"), ("guidance_scale", None)):  # as ever
        if plain[name] == usual:
            del plain[name]
    asked = {"settings": plain, "generator": model.identity(), "rows": [len(rows), digest_of_rows(rows)]}
    return json.loads(json.dumps(asked)) | {"labels": labels.to_dict(), "dtype": dtype}


def digest_of_rows(rows: Sequence[Row]) -> str:
    """Of all that rows say, in hexadecimal digits."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([getattr(row, name) for name in _TOLD], default=str).encode())
    return digest.hexdigest()


_TOLD = [field.name for field in fields(Row) if field.name not in ("line", "fault", "unconfirmed")]
