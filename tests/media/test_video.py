from __future__ import annotations

from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from cvg.media.video import VideoError, read_video, write_gif, write_video

Frames = NDArray[np.uint8]


def make(frames: int = 13, height: int = 48, width: int = 64) -> Frames:
    """A white bar that crosses smooth colours from left to right; the frame's number is in its place."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    video = np.stack([x * 160 / width, y * 160 / height, 80 + 0 * x], axis=-1)[None].repeat(frames, axis=0)
    for i in range(frames):
        left = i * width // frames
        video[i, :, left : left + max(4, width // frames)] = 240
    return video.astype(np.uint8)


def psnr(a: Frames, b: Frames) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def bars(frames: Frames) -> list[float]:
    """Centre of the white bar per frame, as a share of the width."""
    light = frames.min(axis=-1).mean(axis=1) > 150
    return [float(np.nonzero(row)[0].mean() / len(row)) if row.any() else -1.0 for row in light]


@pytest.mark.parametrize("fps", [8, 7.3, 23.976])
def test_round_trip(tmp_path: Path, fps: float) -> None:
    path, frames = tmp_path / "clip.mp4", make()
    write_video(path, frames, fps)
    again = read_video(path, 13, 48, 64)
    assert again.shape == frames.shape and again.dtype == np.uint8
    assert psnr(frames, again) > 32
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, make(), 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_scale_and_gif(tmp_path: Path) -> None:
    frames = make(5, 47, 63)
    write_video(tmp_path / "clip.mp4", frames, 8, scale=4)
    assert psnr(read_video(tmp_path / "clip.mp4", 5, 188, 252), frames.repeat(4, axis=1).repeat(4, axis=2)) > 35
    write_gif(tmp_path / "clip.gif", frames, 8, scale=2)
    assert psnr(read_video(tmp_path / "clip.gif", 5, 94, 126), frames.repeat(2, axis=1).repeat(2, axis=2)) > 30


def test_unicode_and_spaces(tmp_path: Path) -> None:
    path = tmp_path / "ein größerer Ordner" / "клип 1: 50% [x].mp4"
    write_video(path, make(), 8)
    assert read_video(path, 13, 48, 64).shape == (13, 48, 64, 3)


def test_segments(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, make(64), 16)  # 4 s
    part = bars(read_video(path, 8, 48, 64, start=1, end=3))
    # Eighths of [1, 3) s: middles at 1.125, 1.375, ... s of 4.
    assert np.allclose(part, (np.arange(8) / 4 + 1.125) / 4 + 1 / 64, atol=0.03)
    tail = bars(read_video(path, 8, 48, 64, start=3))
    assert tail[0] > 0.75 and tail[-1] > 0.95
    assert len(read_video(path, 64, 48, 64)) == 64


def test_hundreds_of_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", make(400, 16, 16), 30)
    assert len(read_video(tmp_path / "clip.mp4", 300, 16, 16)) == 300


def test_covers_and_crops_the_centre(tmp_path: Path) -> None:
    frames = np.zeros((4, 32, 96, 3), np.uint8)
    frames[:, :, 32:64] = 255
    write_video(tmp_path / "clip.mp4", frames, 8)
    assert read_video(tmp_path / "clip.mp4", 4, 16, 16)[:, :, 2:-2].min() > 240


def _ffmpeg(output: object) -> None:
    output.overwrite_output().run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True)  # type: ignore[attr-defined]


def test_rotated_video_is_turned(tmp_path: Path) -> None:
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    frames[:, :, :32] = 255  # left half white
    write_video(tmp_path / "clip.mp4", frames, 8)
    turned = ffmpeg.input(str(tmp_path / "clip.mp4"), display_rotation=90)  # counter-clockwise: left becomes bottom
    _ffmpeg(turned.output(str(tmp_path / "turned.mp4"), c="copy"))
    video = read_video(tmp_path / "turned.mp4", 4, 64, 32)
    assert video[:, 40:].min() > 200 and video[:, :24].max() < 50


def test_variable_frame_rate(tmp_path: Path) -> None:
    # Frames 0 to 7 last 1/16 s, the others four times as long: half of them take a fifth of the time.
    write_video(tmp_path / "clip.mp4", make(16), 16)
    source = ffmpeg.input(str(tmp_path / "clip.mp4"))
    filters = "settb=1/1000,setpts='if(lt(N,8),N*62.5,500+(N-8)*250)'"
    _ffmpeg(source.output(str(tmp_path / "varying.mkv"), vf=filters, fps_mode="vfr", vcodec="libx264", crf=5))
    video = bars(read_video(tmp_path / "varying.mkv", 5, 48, 64, end=2.25))
    seconds = (np.arange(5) + 0.5) * 2.25 / 5
    shown = np.where(seconds < 0.5, seconds * 16, 8 + (seconds - 0.5) * 4).astype(int)
    assert np.allclose(video, (shown + 0.4) / 16, atol=0.02)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", make(), 8)
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 14}, "the segment has 13 frames, 14 are needed"),
        ({"start": 1.0, "end": 1.2}, "the segment has 2 frames, 4 are needed"),
        ({"start": 1.0, "end": 1.0}, "is empty; give 0 <= start < end"),
        ({"start": -1.0}, "is empty"),
        ({"start": 9.0}, "no frame lies in the segment"),
        ({"end": 9.0}, "ends at 1.6. s, before 9 s"),
        ({"frames": 0}, "0 frames of 16 x 16 asked for; give at least 1"),
    ],
)
def test_segments_that_cannot_be(clip: Path, options: dict[str, float], message: str) -> None:
    arguments: dict[str, object] = {"frames": 4, "height": 16, "width": 16, **options}
    with pytest.raises(VideoError, match=message):
        read_video(clip, **arguments)  # type: ignore[arg-type]


def test_files_that_are_no_video(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none.mp4: no such file; check the path"):
        read_video(tmp_path / "none.mp4", 4, 16, 16)
    half = tmp_path / "half.mp4"
    half.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("not a video")
    empty.touch()
    for path, words in ((half, ".+"), (text, ".*Invalid data.*"), (empty, ".*Invalid data.*")):
        with pytest.raises(VideoError, match=rf"{path.name}: cannot be read \(ffmpeg: {words}\)"):
            read_video(path, 4, 16, 16)


def test_frames_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(VideoError, match="64 x 47 pixels, but H.264 .yuv420p. needs even sides"):
        write_video(path, make(2, 47), 8)
    cases: list[Any] = [make().astype(np.float32), make()[0], make()[:0]]
    for bad in cases:
        with pytest.raises(VideoError, match="expected uint8"):
            write_video(path, bad, 8)
    with pytest.raises(VideoError, match="give fps > 0"):
        write_video(path, make(), 0)
    with pytest.raises(VideoError, match=r"cannot be written \(ffmpeg: "):
        write_video(path, make(2), 1e-12)
    assert list(tmp_path.iterdir()) == []
