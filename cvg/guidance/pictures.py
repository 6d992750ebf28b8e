"""What image-to-video generators make videos of: files, read when a batch of theirs is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvg.common.errors import SettingsError
from cvg.composition.asking import PromptLine
from cvg.media.pictures import read_picture


@dataclass(frozen=True)
class Pictures:
    """The files of a video's first and last picture; None for one that is not given.

    Attributes:
        first: of the first frame.
        last: of the last one.
        digests: SHA-256 of their files, in hexadecimal digits.
    """

    first: Path | None = None
    last: Path | None = None
    digests: tuple[str, ...] = ()

    @classmethod
    def of(cls, first: Path | None, last: Path | None) -> Pictures:
        """Those of these files, which are read once, to know that they can be.

        Raises:
            SettingsError: a last one without a first.
            DataError: a file is missing, or no picture.
        """
        if first is None:
            if last is not None:
                raise SettingsError(f"last_image {last}: goes with a first one; give that too")
            return cls()
        return cls(first, last, tuple(read_picture(path)[1] for path in (first, last) if path is not None))

    @property
    def told(self) -> dict[str, str] | None:
        """The digests as sidecars have them; None without pictures."""
        return dict(zip(("sha256", "last_sha256"), self.digests, strict=False)) or None

    def show(self, generator: Any) -> None:
        """Let a generator make its next videos of them; where there are none, it is one that takes none."""
        if self.first is not None:
            generator.image, generator.last_image = (_read(path) for path in (self.first, self.last))


def _read(path: Path | None) -> Any:
    return None if path is None else read_picture(path)[0]


def given(pictures: Sequence[Pictures]) -> tuple[bool, bool]:
    """Whether videos are made of pictures, and whether some end with one."""
    return any(each.first for each in pictures), any(each.last for each in pictures)


def pictures_of(lines: list[PromptLine], image: Path | None, last_image: Path | None) -> list[Pictures]:
    """The pictures of each prompt: its own, else those that are given for all.

    Raises:
        SettingsError: some prompts have pictures and some have none.
        DataError: a file is missing, or no picture.
    """
    known: dict[tuple[Path | None, Path | None], Pictures] = {}
    found = []
    for line in lines:
        pair = (line.image or image, line.last_image or last_image)
        known[pair] = known.get(pair) or Pictures.of(*pair)
        found.append(known[pair])
    bare = [line.prompt for line, pictures in zip(lines, found, strict=True) if pictures.first is None]
    if bare and len(bare) < len(lines):
        raise SettingsError(f"prompt {bare[0]!r}: has no image, and others have; give each one, or one for all")
    return found
