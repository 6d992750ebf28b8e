"""Makes docs/assets/teaser.gif: ``python docs/tools/teaser.py``, two minutes on one core.

For each prompt the first seed, from 0 on, whose unguided video is wrong; under it the guided video of the same seed,
whatever it shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cvg import CompositionClassifier, GuidedSampler, load_generator, parse
from cvg.evaluation.suites import load_suite, scores
from cvg.media.pixels import to_frames

PROMPTS = [
    "a red circle to the left of a blue square",
    "a blue square moving right",
    "a purple circle moving towards a green square",
    "a yellow circle moving up below a blue triangle",
]
OUT = Path(__file__).parents[1] / "assets/teaser.gif"
SCALE, GAP, TEXT = 3, 12, 44  # pixels
SIDE_LABELS = 84
COLOURS = 256
FAINT = 12  # of 255


def panels(sampler: GuidedSampler, prompt: str) -> tuple[int, NDArray[np.uint8], NDArray[np.uint8]]:
    """The first seed whose unguided video is wrong, that video and the guided one: frames (F, H, W, 3)."""
    suite, composition, seed = load_suite("shapes"), parse(prompt, sampler.classifier.labels), 0
    while True:
        plain = to_frames(sampler([prompt], seeds=[seed], guided=False).video_BCFHW[0])
        if not scores(suite, [plain], [composition])[0].right:
            guided = to_frames(sampler([prompt], seeds=[seed]).video_BCFHW[0])
            print(f"{prompt}: seed {seed}, guided right: {scores(suite, [guided], [composition])[0].right}")
            return seed, plain, guided
        seed += 1


def settled(video: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The video without flicker too faint to see, which would be most of the file."""
    frames = [video[0]]
    for frame in video[1:]:
        change = np.abs(frame.astype(int) - frames[-1]).max(axis=-1, keepdims=True)
        frames.append(np.where(change > FAINT, frame, frames[-1]))
    return np.stack(frames)


def font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own sans serif."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def wrapped(prompt: str) -> str:
    """The prompt in two lines of about the same length."""
    words = prompt.split()
    cut = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(" ".join(words[i:]))))
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """All frames in one picture."""
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures]))


def main() -> None:
    """Sample, compose and write."""
    classifier = CompositionClassifier.from_pretrained("shapes-classifier")
    sampler = GuidedSampler(load_generator("shapes-wan"), classifier)
    columns = [panels(sampler, prompt) for prompt in PROMPTS]
    columns = [(seed, settled(plain), settled(guided)) for seed, plain, guided in columns]
    frames, side = len(columns[0][1]), columns[0][1].shape[1] * SCALE
    size = (SIDE_LABELS + len(columns) * (side + GAP), TEXT + 2 * (side + GAP))
    pictures = []
    for frame in range(frames):
        picture = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(picture)
        for row, name in enumerate(("unguided", "guided")):
            draw.text((4, TEXT + row * (side + GAP) + side // 2 - 8), name, "black", font(15))
        for column, (_, plain, guided) in enumerate(columns):
            left = SIDE_LABELS + column * (side + GAP)
            centre = left + side // 2
            draw.multiline_text((centre, 4), wrapped(PROMPTS[column]), "black", font(13), "ma", align="center")
            for row, video in enumerate((plain, guided)):
                shown = Image.fromarray(video[frame]).resize((side, side), Image.Resampling.NEAREST)
                picture.paste(shown, (left, TEXT + row * (side + GAP)))
        pictures.append(picture)
    palette = stacked(pictures).quantize(COLOURS)  # one for all frames
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    OUT.parent.mkdir(exist_ok=True)
    durations = [140] * (frames - 1) + [1200]
    pictures[0].save(OUT, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)
    print(f"wrote {OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
