"""Videos that are none, that name other files, that claim what they are not, or that never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from cvg.media import video
from cvg.media.video import VideoError, picture_size, read_video, write_video

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def refused(path: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(VideoError, match=message) as caught:
        read_video(path, 4, 16, 16, **options)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds at 10 fps; a frame is as light as its number says."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(48, 1).repeat(64, 2).repeat(3, 3)
    write_video(path, frames, 10)
    return path


LISTS = {
    "concat": "ffconcat version 1.0\nfile '{clip}'\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\n{clip}\n",  # live: it never says that it ends
    "remote": "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"><Period/></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 31\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".sdp"])
def test_files_that_name_others_are_not_followed(clip: Path, tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(LISTS[kind].format(clip=clip))
    began = time.monotonic()
    refused(path, "is no video file|cannot be read")
    assert time.monotonic() - began < 5


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "fifo.mp4", tmp_path / "folder.mp4", Path("/dev/zero")):
        refused(path, "is no regular file")


NAMES = ["x" * 300 + ".mp4", "a\udcff.mp4", "a\ud800.mp4", "a\0.mp4", "http://127.0.0.1:9/a.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    refused(tmp_path / name, "no such file|too long|is no path")


def test_patterns_and_pictures_are_no_video(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"a{number}.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    (tmp_path / "a%d.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    refused(tmp_path / "a%d.ppm", "is no video file")


def test_a_picture_may_not_be_larger_than_the_bound(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y4m = tmp_path / "large.y4m"
    y4m.write_bytes(b"YUV4MPEG2 W30000 H30000 F25:1 C420jpeg\nFRAME\n" + bytes(64))
    refused(y4m, "cannot be read")
    monkeypatch.setitem(video._LOCAL, "max_pixels", 1000)
    refused(clip, "cannot be read")


def test_a_segment_may_not_have_more_frames_than_the_bound(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_FRAMES", 150)
    refused(clip, "more than 150 frames")
    assert read_video(clip, 4, 16, 16, end=10.0).shape == (4, 16, 16, 3)


def test_what_takes_too_long_is_ended(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "TIME_LIMIT_S", 0.001)
    refused(clip, "within 0.001 s")


def test_pixels_of_absurd_shape_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "thin.y4m"
    path.write_bytes(b"YUV4MPEG2 W32 H32 F25:1 A100000:1 Cmono\n" + (b"FRAME\n" + bytes(1024)) * 4)
    assert picture_size(path) == (32, 512)
    assert read_video(path, 4, 16, 16).shape == (4, 16, 16, 3)


def cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="of util-linux")
def test_ffmpeg_ends_with_its_parent() -> None:
    code = (
        "import sys, imageio_ffmpeg; from cvg.common.children import run_child; print('up', flush=True);"
        "run_child([imageio_ffmpeg.get_ffmpeg_exe(), '-v', 'error', '-re', '-f', 'lavfi', '-i', 'testsrc', '-t', '600',"
        "'-f', 'null', '-'], None, 600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    assert parent.stdout is not None and parent.stdout.readline()
    deadline = time.monotonic() + 20
    child: list[str] = []
    while not child:
        assert time.monotonic() < deadline
        child = [pid for pid in children.read_text().split() if b"testsrc" in cmdline(pid)]
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{child[0]}/stat").exists() and ") Z" not in Path(f"/proc/{child[0]}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ts", {"vcodec": "libx264", "g": 50, "bf": 2}),
        ("b.ts", {"vcodec": "mpeg2video", "g": 25, "q:v": 2}),
        ("a.h264", {"vcodec": "libx264"}),
        ("a.m4v", {"vcodec": "mpeg4", "q:v": 2}),
        ("a.mkv", {"vcodec": "libx264"}),
    ],
)
@pytest.mark.parametrize("segment", [(3, 5), (7.3, 9.3), (5.96, 7.4), (0.5, 7.9)])
def test_segments_are_of_the_time_that_was_asked(
    clip: Path, tmp_path: Path, name: str, options: dict[str, Any], segment: tuple[float, float]
) -> None:
    path = tmp_path / name
    ffmpeg.input(str(clip)).output(str(path), **options).run(cmd=FFMPEG, quiet=True)
    start, end = segment
    shown = read_video(path, 5, 48, 64, start=start, end=end)[:, 20, 20, 0].astype(int)
    seconds = start + (np.arange(5) + 0.5) * (end - start) / 5
    assert np.abs(shown - np.floor(seconds * 10 + 1e-6)).max() <= 2


def noisy(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for _ in range(1 + seed % 40):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed[: rng.integers(len(changed) // 2, len(changed)) if seed % 3 == 0 else None])


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files_are_read_or_refused_but_nothing_else(seed: int, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    path.write_bytes(noisy(clip.read_bytes(), seed))
    message = ""
    try:
        frames = read_video(path, 4, 16, 16)
    except VideoError as error:
        message = str(error)
    if message:
        assert str(path) in message and "\n" not in message
    else:
        assert frames.shape == (4, 16, 16, 3) and frames.dtype == np.uint8
