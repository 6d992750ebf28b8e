"""Video files to arrays and back: the only place that touches ffmpeg (the binary of imageio-ffmpeg; no ffprobe)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import DataError
from cvg.common.files import atomic

_EXACT = {"fps_mode": "passthrough", "xerror": None}
"""Options of every reading: no picture is doubled or dropped, and half a file is no short video but an error."""


class VideoError(DataError):
    """A video file that cannot be read or written as asked; the message has ffmpeg's own last words."""


def read_video(
    path: str | Path,
    frames: int,
    height: int,
    width: int,
    start: float | None = None,
    end: float | None = None,
) -> NDArray[np.uint8]:
    """Read a fixed number of frames of a fixed size from a segment of a video.

    The segment is cut into ``frames`` equal parts and each gives the picture that a player shows at its middle, so a
    clip of exactly that many frames comes back as it is, and a variable frame rate does no harm. Pictures are turned
    as the file says, scaled to cover ``height`` x ``width`` and cropped at the centre.

    Args:
        path: any file that ffmpeg decodes; the first video stream is read.
        frames: F, at least 1.
        height: of the result, in pixels.
        width: of the result, in pixels.
        start: start of the segment in seconds; that of the video when None.
        end: end of the segment in seconds (exclusive); that of the video when None.

    Returns:
        frames_FHWC: (F, height, width, 3) uint8 RGB.

    Raises:
        VideoError: the file is missing, is no video or is damaged, or the segment is empty, reaches beyond the end or
            holds fewer pictures than asked for.
    """
    path, begin = Path(path), start or 0.0
    if min(frames, height, width) < 1:
        raise VideoError(f"video {path}: {frames} frames of {height} x {width} asked for; give at least 1 of each")
    if begin < 0 or (end is not None and end <= begin):
        raise VideoError(f"video {path}: segment {begin:g} to {end} s is empty; give 0 <= start < end")
    if not path.is_file():
        raise VideoError(f"video {path}: no such file; check the path")
    limits: dict[str, float] = {"ss": begin} if begin else {}
    if end is not None:
        limits["t"] = end - begin
    # Seeking comes before decoding, so a segment of a long film costs no more than a clip.
    source = ffmpeg.input(f"file:{path}", **limits)["V:0"]
    unique, inverse = np.unique(_pick(path, source, frames, begin, end), return_inverse=True)
    filters = (
        f"select='{_any_of(unique.tolist())}',"
        "scale='iw*max(sar,1)':'ih/min(max(sar,1e-3),1)',setsar=1,"  # square pixels, by stretching: none are lost
        f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
    )
    data = _run(path, "read", source.output("pipe:", format="rawvideo", pix_fmt="rgb24", vf=filters, **_EXACT))
    if len(data) != len(unique) * height * width * 3:
        raise VideoError(f"video {path}: is damaged ({len(data)} bytes of pictures came); write it again")
    return np.frombuffer(data, np.uint8).reshape(len(unique), height, width, 3)[inverse]


def _pick(path: Path, source: Any, frames: int, begin: float, end: float | None) -> NDArray[np.intp]:
    """Which pictures of a segment are shown at the middles of its ``frames`` equal parts: their numbers (F,)."""
    # The file's own clock: the default ticks once per nominal frame.
    listing = source.output("pipe:", format="framecrc", vf="scale=16:16", enc_time_base="demux", **_EXACT)
    times, stop = _timestamps(path, listing)
    if end is not None:
        # How long the last frame lasts is often unknown or cut short: only what is clearly beyond it is missing.
        if begin + stop + max(0.1, 1.5 * float(np.diff(times, append=stop).max())) < end:
            raise VideoError(f"video {path}: ends at {begin + stop:.2f} s, before {end:g} s; give a shorter segment")
        stop = end - begin
    if (count := int(np.sum(times < stop))) < frames:
        raise VideoError(f"video {path}: the segment has {count} frames, {frames} are needed; give a longer segment")
    wanted = (np.arange(frames) + 0.5) * (stop / frames)
    return np.clip(np.searchsorted(times, wanted + 1e-6, side="right") - 1, 0, None)


def write_video(path: str | Path, frames_FHWC: NDArray[np.uint8], fps: float, scale: int = 1) -> None:
    """Write an H.264 (yuv420p) mp4 file that any player shows, atomically. The same frames give the same bytes.

    Args:
        path: the file to write.
        frames_FHWC: (F, H, W, 3) uint8 RGB.
        fps: frames per second.
        scale: enlarge every pixel to this many squared, for small clips that are to be looked at.

    Raises:
        VideoError: frames of another type or shape, or of odd sides after scaling, or ffmpeg fails.
    """
    frames, (height, width) = _checked(path, frames_FHWC, fps, scale)
    if height % 2 or width % 2:
        raise VideoError(
            f"video {path}: {width} x {height} pixels, but H.264 (yuv420p) needs even sides; "
            "crop it, or give an even scale"
        )
    with atomic(path) as temporary:
        output = _source(frames, fps).output(
            f"file:{temporary}",
            format="mp4",
            vcodec="libx264",
            pix_fmt="yuv420p",
            crf=10,  # looks lossless
            # Tagged, because players guess the colour matrix of untagged files from their size.
            vf=f"scale={width}:{height}:flags=neighbor:out_color_matrix=bt709:out_range=tv,setsar=1",
            colorspace="bt709",
            color_primaries="bt709",
            color_trc="bt709",
            threads=1,  # x264's result depends on the number of threads
            fflags="+bitexact",
            movflags="+faststart",
        )
        _run(Path(path), "written", output, frames.tobytes())


def write_gif(path: str | Path, frames_FHWC: NDArray[np.uint8], fps: float, scale: int = 1) -> None:
    """Write an endless GIF with a palette of its own, atomically. Arguments and errors as of :func:`write_video`.

    GIF counts time in hundredths of a second, so 8 fps alternate between 0.12 and 0.13 s.
    """
    frames, (height, width) = _checked(path, frames_FHWC, fps, scale)
    with atomic(path) as temporary:
        parts = _source(frames, fps).filter("scale", width, height, flags="neighbor").filter_multi_output("split")
        coloured = ffmpeg.filter([parts[0], parts[1].filter("palettegen")], "paletteuse", dither="none")
        _run(Path(path), "written", coloured.output(f"file:{temporary}", format="gif", loop=0), frames.tobytes())


def _any_of(numbers: list[int]) -> str:
    """An ffmpeg expression: the frame's number is one of these. Balanced, as long sums are too deep for its parser."""
    if len(numbers) == 1:
        return f"eq(n,{numbers[0]})"
    half = len(numbers) // 2
    return f"({_any_of(numbers[:half])}+{_any_of(numbers[half:])})"


def _checked(path: str | Path, frames: NDArray[np.uint8], fps: float, scale: int) -> tuple[Any, tuple[int, int]]:
    """The frames in one piece, and the (height, width) that they will have."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise VideoError(
            f"video {path}: frames are {frames.dtype} of shape {frames.shape}; "
            "expected uint8 (frames, height, width, 3)"
        )
    if fps <= 0 or scale < 1:
        raise VideoError(f"video {path}: fps {fps:g}, scale {scale}; give fps > 0 and scale >= 1")
    return np.ascontiguousarray(frames), (frames.shape[1] * scale, frames.shape[2] * scale)


def _source(frames_FHWC: NDArray[np.uint8], fps: float) -> Any:
    _, height, width, _ = frames_FHWC.shape
    return ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=fps)


def _timestamps(path: Path, output: Any) -> tuple[NDArray[np.float64], float]:
    """When each frame of the segment is first shown, in seconds from its start, and when the last one ends."""
    unit, rows = 0.0, []
    for line in _run(path, "read", output).decode().splitlines():
        if line.startswith("#tb 0:"):
            numerator, denominator = line.split(":")[1].split("/")
            unit = int(numerator) / int(denominator)
        elif line and not line.startswith("#"):
            rows.append([int(field) for field in line.split(",")[2:4]])  # stream, dts, pts, duration, size, checksum
    if not rows:
        raise VideoError(f"video {path}: no frame lies in the segment; give one within the video")
    times = np.array(rows, np.float64) * unit
    shown, last = times[:, 0], times[-1, 1]
    if last <= 0 and len(shown) > 1:  # some containers do not say how long the last frame lasts
        last = np.median(np.diff(shown))
    return shown, float(shown[-1] + last)


def _run(path: Path, verb: str, output: Any, data: bytes | None = None) -> bytes:
    try:
        result, _ = (
            output.global_args("-hide_banner", "-nostdin", "-loglevel", "error")
            .overwrite_output()
            .run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=data, capture_stdout=True, capture_stderr=True)
        )
    except ffmpeg.Error as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["ffmpeg said nothing"]
        raise VideoError(
            f"video {path}: cannot be {verb} (ffmpeg: {lines[-1].strip()}); check that it is a whole video file"
            if verb == "read"
            else f"video {path}: cannot be {verb} (ffmpeg: {lines[-1].strip()}); check the place and its free space"
        ) from error
    return bytes(result)
