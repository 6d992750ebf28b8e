"""Pictures that image-to-video models are given: what is read, and what is refused in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import PIL.Image
import pytest

from cvg.common.errors import DataError
from cvg.media import pictures
from cvg.media.pictures import read_picture


def test_a_picture_is_read_as_it_is_to_be_seen(tmp_path: Path) -> None:
    turned, exif = PIL.Image.new("RGB", (8, 4), "red"), PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    for name, shape in (("turned.jpg", (4, 8)), ("grey.png", (8, 4)), ("clear.webp", (8, 4)), ("named.jpg", (8, 4))):
        path = tmp_path / name
        if name != "turned.jpg":
            mode = {"grey.png": "L", "clear.webp": "RGBA", "named.jpg": "RGB"}[name]
            PIL.Image.new(mode, (8, 4)).save(path, format="PNG" if name == "named.jpg" else None)
        picture, digest = read_picture(path)
        assert (picture.size, picture.mode) == (shape, "RGB")
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_no_picture_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.png"
    PIL.Image.effect_noise((64, 64), 90).save(good)
    half, text, film = tmp_path / "half.png", tmp_path / "text.png", tmp_path / "film.gif"
    half.write_bytes(good.read_bytes()[:1000])
    text.write_text("no picture")
    PIL.Image.new("P", (8, 8)).save(film)
    for path, message in [
        (tmp_path / "none.png", "there is no such file; give a picture"),
        (tmp_path, "there is no such file"),
        (text, "cannot be read as a picture .it is none of these.; give a file of PNG, JPEG"),
        (film, "it is none of these"),
        (half, "cannot be read as a picture"),
    ]:
        with pytest.raises(DataError, match=message) as error:
            read_picture(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="cannot be read as a picture .*decompression bomb"):
        read_picture(good)
    monkeypatch.setattr(pictures, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="is larger than 100 bytes"):
        read_picture(good)
