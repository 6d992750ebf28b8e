"""The rows of a run that is not over, batch after batch in JSON Lines files, so that one that was stopped goes on.

Every process of a run writes a file of its own and reads those of all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError
from cvg.common.files import atomic, sweep
from cvg.common.typed import read, to_dict
from cvg.evaluation.rows import Row
from cvg.evaluation.timing import Timing

_REMEDY = "delete the file to begin anew"


@dataclass(frozen=True)
class Done:
    """A batch that is done.

    Attributes:
        rows: of its cases; none where they were sampled plainly.
        timing: its seconds.
    """

    rows: list[Row]
    timing: Timing


class Journal:
    """Rows and timings of the batches that are done. The first line of a file is what the run depends on.

    Args:
        path: of the first process's file; those of the others have a number in their names.
        setup: what the run depends on, as JSON can hold it.
        rank: which process this is.

    Raises:
        DataError: a file is of a run with another setup, or cannot be read.
    """

    def __init__(self, path: Path, setup: dict[str, Any], rank: int = 0) -> None:
        self.first, self.setup = path, json.loads(json.dumps(setup))
        self.path = path.with_suffix(f".{rank}.jsonl") if rank else path
        self.done: dict[int, Done] = {}
        sweep(self.path.parent, older=0, name=self.path.name)
        self.read()

    @property
    def rows(self) -> list[Row]:
        """Those of all batches that are done, in order."""
        return [row for _, batch in sorted(self.done.items()) for row in batch.rows]

    @property
    def timing(self) -> Timing:
        """That of all batches that are done, in order."""
        whole = Timing()
        for _, batch in sorted(self.done.items()):
            for name, values in vars(whole).items():
                values.extend(getattr(batch.timing, name))
        return whole

    def add(self, number: int, rows: list[Row], timing: Timing) -> None:
        """Keep the rows of a batch. They are on the disk when this returns.

        Args:
            number: the batch's, among all.
            rows: of its cases.
            timing: of this batch.
        """
        told = {"batch": number, "rows": [to_dict(row) for row in rows], "seconds": vars(timing)}
        line = json.dumps(told, allow_nan=False)
        try:
            if not self.path.exists():
                with atomic(self.path) as temporary:
                    temporary.write_text(json.dumps(self.setup) + "\n", encoding="utf-8")
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error
        self.done[number] = Done(rows, timing)

    def read(self) -> None:
        """Read what all processes have done so far."""
        for path in self._files():
            self._read(path)

    def close(self) -> None:
        """Delete the files: the rows are elsewhere."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        if self.first.exists():
            yield self.first
        start, end = f"{self.first.stem}.", self.first.suffix
        for path in sorted(self.first.parent.glob("*")) if self.first.parent.is_dir() else []:
            if path.name.startswith(start) and path.suffix == end and path.stem.removeprefix(start).isdecimal():
                yield path

    def _read(self, path: Path) -> None:
        what = f"rows {path}"
        try:
            first, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
            setup = json.loads(first)
        except OSError as error:
            raise DataError(f"{what}: cannot be read ({error.strerror}); check the path") from error
        except ValueError as error:
            raise DataError(f"{what}: damaged ({error}); {_REMEDY}") from error
        other = [name for name, value in self.setup.items() if not isinstance(setup, dict) or setup.get(name) != value]
        if other:
            raise DataError(
                f"{what}: of a run that was stopped, with other settings ({', '.join(other)}); use the same to go on "
                f"with it, choose another place, or {_REMEDY}"
            )
        whole = [line for line in lines if line.endswith("\n")]  # the last was being written
        try:
            for batch in map(json.loads, whole):
                rows = [read(Row, row, what, _REMEDY) for row in batch["rows"]]
                seconds = {name: [float(value) for value in batch["seconds"][name]] for name in vars(Timing())}
                self.done[int(batch["batch"])] = Done(rows, Timing(**seconds))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{what}: damaged ({error}); {_REMEDY}") from error
        if whole != lines and path == self.path:
            with atomic(path) as temporary:
                temporary.write_text("".join([first, *whole]), encoding="utf-8")
