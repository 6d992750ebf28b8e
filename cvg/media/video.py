"""Video files to arrays and back: the only place that touches ffmpeg (the binary of imageio-ffmpeg; no ffprobe)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from cvg.common.children import run_child
from cvg.common.errors import DataError
from cvg.common.files import atomic

Fit = Literal["crop", "letterbox"]
"""How pictures of another shape fill the one asked for: cut at the centre, or whole between black bars."""
TIME_LIMIT_S = 900
"""Seconds that one pass over a file may take: a film of two hours in full HD is decoded in half of it on two cores."""
MAX_PIXELS = 8192 * 4320
"""Pixels of a picture: 8K. A file of a few bytes may claim any number, and memory is taken for what it claims."""
MAX_FRAMES = 1_000_000
"""Frames of a segment: four hours at 60 a second. Each is remembered by its time."""
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,gif,apng,webp_anim,"
    "h261,h263,h264,hevc,vvc,av1,obu,m4v,mjpeg,mjpeg_2000,vc1,dirac,cavsvideo,dv,rm,wtv,nsv,gxf,yuv4mpegpipe"
)
"""What ffmpeg may take a file for: things that hold pictures. Playlists, lists and patterns of files name others."""
_LOCAL: dict[str, Any] = {
    "protocol_whitelist": "file",
    "format_whitelist": _CONTAINERS,
    "max_pixels": MAX_PIXELS,
}
"""Options of every file that is read: nothing is fetched, and no other file is opened on its behalf."""
_EXACT = {"fps_mode": "passthrough", "xerror": None}
"""Options of every reading: no picture is doubled or dropped, and half a file is no short video but an error."""
_SQUARE = "scale='iw*clip(sar,1,16)':'ih/clip(sar,1/16,1)',setsar=1"
"""Filter: square pixels, by stretching, so that none are lost. A pixel of more than 16 to 1 is a file's mistake."""
_EARLIER_S = 10.0
"""Seconds before a segment from which it is sought again where the first try came too late: players' longest pause
between two key frames, twice."""


class VideoError(DataError):
    """A video file that cannot be read or written as asked; the message has ffmpeg's own last words."""


def read_video(
    path: str | Path,
    frames: int,
    height: int,
    width: int,
    start: float | None = None,
    end: float | None = None,
    fit: Fit = "crop",
) -> NDArray[np.uint8]:
    """Read a fixed number of frames of a fixed size from a segment of a video.

    The segment is cut into ``frames`` equal parts and each gives the picture that a player shows at its middle, so a
    clip of exactly that many frames comes back as it is, and a variable frame rate does no harm. Pictures are turned
    as the file says, scaled to cover ``height`` x ``width`` and cropped at the centre, or scaled to fit within.

    Args:
        path: a regular file on this machine, in any container of video that ffmpeg knows; the first video stream is
            read. Playlists and other files that name files are refused.
        frames: F, at least 1.
        height: of the result, in pixels.
        width: of the result, in pixels.
        start: start of the segment in seconds; that of the video when None.
        end: end of the segment in seconds (exclusive); that of the video when None.
        fit: what becomes of pictures of another shape.

    Returns:
        frames_FHWC: (F, height, width, 3) uint8 RGB.

    Raises:
        VideoError: the file is missing, is no video or is damaged, is larger or takes longer than the limits of this
            module, or the segment is empty, reaches beyond the end or holds fewer pictures than asked for.
    """
    path, begin = Path(path), start or 0.0
    if min(frames, height, width) < 1:
        raise VideoError(f"video {path}: {frames} frames of {height} x {width} asked for; give at least 1 of each")
    if begin < 0 or (end is not None and end <= begin):
        raise VideoError(f"video {path}: segment {begin:g} to {end} s is empty; give 0 <= start < end")
    _check_file(path)
    sought, times, stop = _listing(path, begin, end)
    unique, inverse = np.unique(_pick(path, times, stop, frames, begin - sought, begin, end), return_inverse=True)
    inner = f"scale={width}:{height}:force_original_aspect_ratio"
    shaped = {
        "crop": f"{inner}=increase,crop={width}:{height}",
        "letterbox": f"{inner}=decrease,pad={width}:{height}:-1:-1",
    }
    filters = f"select='{_any_of(unique.tolist())}',{_SQUARE},{shaped[fit]}"
    output = _opened(path, sought, end).output("pipe:", format="rawvideo", pix_fmt="rgb24", vf=filters, **_EXACT)
    data = _run(path, "read", output)
    if len(data) != len(unique) * height * width * 3:
        raise VideoError(f"video {path}: is damaged ({len(data)} bytes of pictures came); write it again")
    return np.frombuffer(data, np.uint8).reshape(len(unique), height, width, 3)[inverse]


def picture_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a video's first picture, turned as the file says and with square pixels.

    Raises:
        VideoError: as of :func:`read_video`.
    """
    path = Path(path)
    _check_file(path)
    output = _opened(path, 0.0, None).output("pipe:", format="framecrc", vframes=1, vf=_SQUARE, **_EXACT)
    for line in _run(path, "read", output).decode().splitlines():
        if line.startswith("#dimensions 0:"):
            width, height = line.split(":")[1].split("x")
            return int(height), int(width)
    raise VideoError(f"video {path}: has no picture; give one that has")


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise VideoError(f"video {path}: no such file; check the path")
        if not path.is_file():
            raise VideoError(f"video {path}: is no regular file; give one")
        with path.open("rb"):
            pass
    except OSError as error:
        raise VideoError(f"video {path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except ValueError as error:
        raise VideoError(f"video {path!r}: is no path ({error}); check its letters") from error


def _opened(path: Path, sought: float, end: float | None) -> Any:
    """The first video stream of a file from ``sought`` on, in seconds, up to ``end``."""
    limits: dict[str, float] = {"ss": sought} if sought else {}
    if end is not None:
        limits["t"] = end - sought
    return ffmpeg.input(f"file:{path}", **_LOCAL, **limits)["V:0"]


def _listing(path: Path, begin: float, end: float | None) -> tuple[float, NDArray[np.float64], float]:
    """When the frames of a segment are shown.

    Seeking comes before decoding, so a segment of a long film costs no more than a clip. Where a container has no index
    (MPEG-TS) it may end behind the segment's start, and raw streams cannot be sought at all. So the time of the first
    frame is looked at; where it comes late the same is tried from earlier, and at last from the beginning.

    Returns:
        Where the file was sought; when each frame from there on is first shown, and when the last one ends, both in
        seconds from that place.
    """
    for sought in dict.fromkeys((begin, max(begin - _EARLIER_S, 0.0), 0.0)):
        # The file's own clock: the default ticks once per nominal frame.
        clock = {"format": "framecrc", "vf": "scale=16:16", "enc_time_base": "demux", "vframes": MAX_FRAMES + 1}
        listing = _opened(path, sought, end).output("pipe:", **clock, **_EXACT)
        times, stop = _timestamps(_run(path, "read", listing))
        if len(times) > MAX_FRAMES:
            raise VideoError(f"video {path}: more than {MAX_FRAMES} frames; give a shorter segment")
        usual = float(np.median(np.diff(times, append=stop))) if len(times) else 0.0
        if len(times) and times[0] <= begin - sought + 1.5 * usual:
            break
    if not len(times) or stop <= begin - sought:
        raise VideoError(f"video {path}: no frame lies in the segment; give one within the video")
    return sought, times, stop


def _pick(
    path: Path, times: NDArray[np.float64], stop: float, frames: int, lead: float, begin: float, end: float | None
) -> NDArray[np.intp]:
    """Which pictures of a segment are shown at the middles of its ``frames`` equal parts: their numbers (F,).

    ``times`` and ``stop`` are of :func:`_listing`; ``lead`` is where the segment starts on their clock, ``begin`` and
    ``end`` are its ends on the video's.
    """
    if end is not None:
        # How long the last frame lasts is often unknown or cut short: only what is clearly beyond it is missing.
        after = begin - lead + stop
        if after + max(0.1, 1.5 * float(np.diff(times, append=stop).max())) < end:
            raise VideoError(f"video {path}: ends at {after:.2f} s, before {end:g} s; give a shorter segment")
        stop = end - begin + lead
    if (count := int(np.sum((times >= lead - 1e-6) & (times < stop)) if lead else np.sum(times < stop))) < frames:
        raise VideoError(f"video {path}: the segment has {count} frames, {frames} are needed; give a longer segment")
    wanted = lead + (np.arange(frames) + 0.5) * ((stop - lead) / frames)
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


def _timestamps(listing: bytes) -> tuple[NDArray[np.float64], float]:
    """When each frame of a listing is first shown, in seconds from its start, and when the last one ends."""
    unit, rows = 0.0, []
    for line in listing.decode().splitlines():
        if line.startswith("#tb 0:"):
            numerator, denominator = line.split(":")[1].split("/")
            unit = int(numerator) / int(denominator)
        elif line and not line.startswith("#"):
            rows.append([int(field) for field in line.split(",")[2:4]])  # stream, dts, pts, duration, size, checksum
    if not rows:
        return np.zeros(0), 0.0
    times = np.array(rows, np.float64) * unit
    shown, last = times[:, 0], times[-1, 1]
    if last <= 0 and len(shown) > 1:  # some containers do not say how long the last frame lasts
        last = np.median(np.diff(shown))
    return shown, float(shown[-1] + last)


def _run(path: Path, verb: str, output: Any, data: bytes | None = None) -> bytes:
    # Its own limit is on computed seconds, and holds where nobody is left to end it.
    command = (
        output.global_args("-hide_banner", "-nostdin", "-loglevel", "error", "-timelimit", str(8 * TIME_LIMIT_S))
        .overwrite_output()
        .compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    )
    try:
        done = run_child(command, data, TIME_LIMIT_S)
    except TimeoutError as error:
        raise VideoError(
            f"video {path}: cannot be {verb} within {TIME_LIMIT_S} s; give a shorter or smaller one"
        ) from error
    if done.returncode:
        text = done.stderr.decode(errors="replace")
        if "not on whitelist" in text:
            raise VideoError(f"video {path}: is no video file (a list that names others is none); give the file itself")
        remedy = "check that it is a whole video file" if verb == "read" else "check the place and its free space"
        lines = text.strip().splitlines() or ["ffmpeg said nothing"]
        reason = next((line for line in lines if "No space left" in line), lines[-1]).strip()
        raise VideoError(f"video {path}: cannot be {verb} (ffmpeg: {reason}); {remedy}")
    return done.stdout
