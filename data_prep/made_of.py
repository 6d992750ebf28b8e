"""What the files of a working folder were made of, so that no run goes on with those of another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvg.common.errors import SettingsError
from cvg.common.files import read_json, write_json


def require_same(folder: Path, made_of: Mapping[str, Any]) -> None:
    """Note in an empty folder what its files will be made of; where that is noted already, it has to be the same.

    Called once all of it is known to be usable: what could not be used would be noted, and what can be refused for it.

    Args:
        folder: made where it is not there.
        made_of: what they depend on, as JSON has it.

    Raises:
        SettingsError: the note says something else, all of which is named, or is missing beside other files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "made_of.json"
    if not note.exists():
        if any(folder.iterdir()):
            raise SettingsError(f"{folder}: has files, and no {note.name} that says of what; give another --out")
        write_json(note, made_of)
    elif (found := read_json(note)) != made_of:
        other = [f"{name} {found.get(name)}" for name in sorted(made_of) if found.get(name) != made_of[name]]
        raise SettingsError(f"{folder}: made with {', '.join(other) or 'other settings'}; give another --out")
