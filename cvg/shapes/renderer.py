"""Draws the clips of the shapes world: antialiased coloured shapes over a textured background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.floating[Any]]
Color = tuple[float, float, float]

SIZE = 64
"""Frame side in pixels."""
FRAMES = 13
"""Frames per clip: 1 + 4k, as the causal video VAE wants."""
FPS = 8

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "green": (35, 190, 50),
    "blue": (45, 75, 235),
    "yellow": (240, 220, 40),
    "purple": (190, 45, 215),
    "cyan": (40, 215, 225),
}
SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True)
class Sprite:
    """One drawn shape.

    Attributes:
        shape: one of ``SHAPES``.
        rgb: colour, 0 to 255; or one per frame (F, 3).
        radius: in pixels, or one per frame (F,); shapes of one radius cover about the same area.
        track_F2: centres (x, y) per frame, in frame sides.
        opacity: 0 to 1, or one per frame (F,).
        layer: sprites of a higher layer are drawn over those of a lower one, of one layer later over earlier ones.
    """

    shape: str
    rgb: Color | NDArray[np.float64]
    radius: float | NDArray[np.float64]
    track_F2: NDArray[np.float64]
    opacity: float | NDArray[np.float64] = 1.0
    layer: int = 0

    def at(self, frames: slice) -> Sprite:
        """The sprite at some of its frames, in the order of the slice."""
        return replace(
            self,
            rgb=self.rgb[frames] if isinstance(self.rgb, np.ndarray) else self.rgb,
            radius=_of(self.radius, frames),
            track_F2=self.track_F2[frames],
            opacity=_of(self.opacity, frames),
        )

    def lasting(self, frames: int) -> Sprite:
        """The sprite in another number of frames: all that it does takes as much longer or shorter."""
        return replace(
            self,
            rgb=_stretched(self.rgb, frames) if isinstance(self.rgb, np.ndarray) else self.rgb,
            radius=_stretched(self.radius, frames) if isinstance(self.radius, np.ndarray) else self.radius,
            track_F2=_stretched(self.track_F2, frames),
            opacity=_stretched(self.opacity, frames) if isinstance(self.opacity, np.ndarray) else self.opacity,
        )


def _stretched(values: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Values (F, ...) over time, linearly between those of neighbouring frames, in another number of frames."""
    columns = values.reshape(len(values), -1).T
    at = np.linspace(0, len(values) - 1, frames)
    made = np.stack([np.interp(at, np.arange(len(values)), column) for column in columns], axis=-1)
    return made.reshape(frames, *values.shape[1:])


def _of(values: float | NDArray[np.float64], frames: slice) -> float | NDArray[np.float64]:
    return values[frames] if isinstance(values, np.ndarray) else values


@dataclass(frozen=True)
class Background:
    """A grey-ish texture: base colour, a linear shade, and stripes or smooth noise.

    Attributes:
        rgb: base colour, 0 to 255.
        shade: brightness change (x, y) across the frame.
        texture: ``plain``, ``stripes`` or ``noise``.
        amplitude: of the texture, in grey levels.
        seed: of the texture's own randomness.
    """

    rgb: tuple[float, float, float]
    shade: tuple[float, float] = (0.0, 0.0)
    texture: str = "plain"
    amplitude: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """Everything a clip shows; ``distractors`` are grey dots that no prompt names."""

    sprites: tuple[Sprite, ...]
    background: Background
    distractors: tuple[Sprite, ...] = field(default=())

    def lasting(self, frames: int) -> Scene:
        """The scene in another number of frames: all that happens takes as much longer or shorter."""
        sprites, dots = (tuple(each.lasting(frames) for each in group) for group in (self.sprites, self.distractors))
        return replace(self, sprites=sprites, distractors=dots)


def signed_distance(shape: str, dx: Pixels, dy: Pixels, radius: float | Pixels) -> Pixels:
    """Signed distance (pixels, negative inside) to a shape's outline, from offsets to its centre."""
    if shape == "circle":
        return np.asarray(np.hypot(dx, dy) - radius)
    if shape == "square":
        return np.asarray(np.maximum(np.abs(dx), np.abs(dy)) - 0.89 * radius)
    if shape == "triangle":  # equilateral, apex up, centred on its centroid
        inner = 0.72 * radius
        return np.asarray(np.maximum(np.abs(dx) * 0.8660254 - dy * 0.5, dy) - inner)
    raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")


def sprite_distance(sprite: Sprite) -> Pixels:
    """Signed distance (F, 64, 64), in pixels and negative inside, of each pixel's centre to a sprite's outline."""
    centre = sprite.track_F2.astype(np.float32) * SIZE
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    dx = axis[None, None, :] - centre[:, 0, None, None]
    dy = axis[None, :, None] - centre[:, 1, None, None]
    return signed_distance(sprite.shape, dx, dy, _per_frame(sprite.radius))


def _per_frame(values: float | NDArray[np.float64]) -> float | Pixels:
    """Values to put against pixels (F, H, W): a number stays one, so that what it makes is the same to the last bit."""
    return values[:, None, None].astype(np.float32) if isinstance(values, np.ndarray) else values


def patch_shares(sprites: Sequence[Sprite], patch: int) -> list[Pixels]:
    """Share of each square patch of ``patch`` pixels in which a sprite is seen: (F, 64 / patch, 64 / patch) each.

    Args:
        sprites: of a scene; those of a higher layer hide what is under them.
        patch: side in pixels.
    """
    side = SIZE // patch
    shares: list[Pixels] = [np.empty(0)] * len(sprites)
    hidden: Any = 0.0
    for index in reversed(_drawn_order(sprites)):
        inside = (sprite_distance(sprites[index]) < 0) * _per_frame(sprites[index].opacity)
        seen = inside * (1 - hidden)
        hidden = hidden + seen
        shares[index] = np.asarray(seen.reshape(-1, side, patch, side, patch).mean((2, 4)), np.float32)
    return shares


def _drawn_order(sprites: Sequence[Sprite]) -> list[int]:
    return sorted(range(len(sprites)), key=lambda index: sprites[index].layer)


def _background(background: Background) -> Pixels:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    grey = background.shade[0] * x + background.shade[1] * y
    rng = np.random.default_rng(background.seed)
    if background.texture == "stripes":
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        waves = rng.uniform(2, 5)
        grey = grey + background.amplitude * np.sin(2 * np.pi * waves * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    elif background.texture == "noise":
        coarse = rng.normal(size=(9, 9))
        grid = np.linspace(0, 8, SIZE)
        rows = np.stack([np.interp(grid, np.arange(9), column) for column in coarse.T], axis=1)
        smooth = np.stack([np.interp(grid, np.arange(9), row) for row in rows], axis=0)
        grey = grey + background.amplitude * smooth
    return (np.array(background.rgb, np.float32) + grey[..., None]).astype(np.float32)


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene.

    Returns:
        frames_FHWC: (F, 64, 64, 3) uint8 RGB.
    """
    frames = scene.sprites[0].track_F2.shape[0]
    video = np.repeat(_background(scene.background)[None], frames, axis=0)
    for sprite in (*scene.distractors, *(scene.sprites[index] for index in _drawn_order(scene.sprites))):
        alpha = (np.clip(0.5 - sprite_distance(sprite), 0, 1) * _per_frame(sprite.opacity))[..., None]
        rgb = np.array(sprite.rgb, np.float32)
        video += alpha * ((rgb[:, None, None] if rgb.ndim == 2 else rgb) - video)
    return np.clip(np.rint(video), 0, 255).astype(np.uint8)
