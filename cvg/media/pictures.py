"""Picture files, as image-to-video pipelines take them."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import PIL.Image
import PIL.ImageOps

from cvg.common.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""What is read, by its content, whatever the file is called."""
MOST_BYTES = 200_000_000
"""Of a file: none is read that could not be a picture of what Pillow's limit of pixels allows."""


def read_picture(path: Path) -> tuple[PIL.Image.Image, str]:
    """Read a picture, turned as its file says.

    Args:
        path: a file of one of :data:`FORMATS`.

    Returns:
        The picture in RGB; and the SHA-256 of its file, in hexadecimal digits.

    Raises:
        DataError: the file is missing, is no picture, is damaged, or claims more pixels than Pillow's limit.
    """
    if not path.is_file():
        raise DataError(f"image {path}: there is no such file; give a picture ({', '.join(FORMATS)})")
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"image {path}: is larger than {MOST_BYTES:,} bytes; give a smaller picture")
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                picture = PIL.ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError, Warning) as error:
        reason = str(error).splitlines()[0].replace(f"{io.BytesIO.__module__}.BytesIO", "file")
        if isinstance(error, PIL.UnidentifiedImageError):
            reason = "it is none of these"
        raise DataError(
            f"image {path}: cannot be read as a picture ({reason}); give a file of {', '.join(FORMATS)}"
        ) from error
    return picture, hashlib.sha256(content).hexdigest()
