"""The rows of a run that is not over, batch after batch in a JSON Lines file, so that one that was stopped goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError
from cvg.common.files import atomic
from cvg.common.typed import read, to_dict
from cvg.evaluation.rows import Row
from cvg.evaluation.runner import Timing

_REMEDY = "delete the file to begin anew"


class Journal:
    """Rows and timings of the batches that are done. The first line of the file is what the run depends on.

    Args:
        path: of the file; made with the first batch.
        setup: what the run depends on, as JSON can hold it.

    Raises:
        DataError: the file is of a run with another setup, or cannot be read.
    """

    def __init__(self, path: Path, setup: dict[str, Any]) -> None:
        self.path, self.setup = path, json.loads(json.dumps(setup))
        self.rows: list[Row] = []
        self.timing = Timing()
        self.batches = 0
        if path.exists():
            self._read()

    def add(self, rows: list[Row], timing: Timing) -> None:
        """Keep the rows of the next batch. It is on the disk when this returns.

        Args:
            rows: of the batch.
            timing: of all batches so far.
        """
        seconds = {name: values[self.batches :] for name, values in vars(timing).items()}
        line = json.dumps({"rows": [to_dict(row) for row in rows], "seconds": seconds}, allow_nan=False)
        try:
            if not self.batches:
                with atomic(self.path) as temporary:
                    temporary.write_text(json.dumps(self.setup) + "\n", encoding="utf-8")
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error
        self.batches += 1

    def close(self) -> None:
        """Delete the file: the rows are elsewhere."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        what = f"rows {self.path}"
        try:
            first, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
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
            found = [json.loads(line) for line in whole]
            self.rows = [read(Row, row, what, _REMEDY) for batch in found for row in batch["rows"]]
            for batch in found:
                for name, values in vars(self.timing).items():
                    values.extend(float(value) for value in batch["seconds"][name])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{what}: damaged ({error}); {_REMEDY}") from error
        self.batches = len(whole)
        if whole != lines:
            with atomic(self.path) as temporary:
                temporary.write_text("".join([first, *whole]), encoding="utf-8")
