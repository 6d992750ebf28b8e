"""The frames that shapes-detector is trained on: entities anywhere, some alike, some half hidden, and their boxes.

A detector looks at generated videos too, so most clips have been through the small VAEs, whose latents were disturbed
on the way: what comes out is blurred, ghosted and washed out as generated videos are.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cvg.common import hub
from cvg.shapes.renderer import COLORS, FRAMES, SHAPES, SIZE, Background, Scene, Sprite, render, sprite_distance
from cvg.shapes.world import ENTITIES, shade

OBJECTS = 4
"""Most entities of a clip."""
CHUNK = 32
"""Clips that a process draws at a time, and a VAE sees."""
LEAST_VISIBLE = 0.5
"""Share of an entity's area that must be seen for it to count as there."""
DECODERS = {"shapes-wan": "AutoencoderKLWan", "shapes-cogvideox": "AutoencoderKLCogVideoX"}
"""Shipped generators whose VAEs clips go through, and the classes of these in diffusers."""


def scattered_scene(rng: np.random.Generator) -> tuple[Scene, NDArray[np.int64]]:
    """A scene of up to four entities on straight ways, and which they are (their places in ``ENTITIES``)."""
    count = int(rng.choice(OBJECTS + 1, p=[0.04, 0.28, 0.48, 0.14, 0.06]))
    kinds = rng.integers(len(ENTITIES), size=count)
    if count > 1 and rng.random() < 0.4:  # alike in colour or in shape: the hard ones to tell apart
        colour, shape = divmod(int(kinds[0]), len(SHAPES))
        same_colour = colour * len(SHAPES) + int(rng.integers(len(SHAPES)))
        kinds[1] = same_colour if rng.random() < 0.5 else int(rng.integers(len(COLORS))) * len(SHAPES) + shape
    time_F = np.linspace(-0.5, 0.5, FRAMES)[:, None]
    for _ in range(32):
        radii = rng.uniform(7.0, 11.0, count)
        tracks = rng.uniform(0.08, 0.92, (count, 1, 2)) + rng.uniform(-0.4, 0.4, (count, 1, 2)) * time_F
        tracks = tracks.clip(0.04, 0.96)
        gaps = np.linalg.norm(tracks[:, None] - tracks[None], axis=-1).min(-1) + 9 * np.eye(count)
        if (gaps > rng.uniform(0.7, 1.2) * (radii[:, None] + radii) / SIZE).all():
            break
    sprites = []
    for kind, radius, track_F2 in zip(kinds, radii, tracks, strict=True):
        colour_name, shape_name = ENTITIES[kind].split()
        sprites.append(Sprite(shape_name, shade(colour_name, rng), float(radius), track_F2))
    dots = []
    for _ in range(int(rng.random() < 0.35)):
        grey = float(rng.uniform(150, 230))
        track_F2 = rng.uniform(0.1, 0.9, 2) + rng.uniform(-0.2, 0.2, 2) * time_F
        dots.append(Sprite(str(rng.choice(SHAPES)), (grey, grey, grey), float(rng.uniform(2, 4)), track_F2))
    base = rng.uniform(5, 150) + rng.uniform(-10, 10, 3)
    background = Background(
        rgb=(float(base[0]), float(base[1]), float(base[2])),
        shade=(float(rng.uniform(-40, 40)), float(rng.uniform(-40, 40))),
        texture=str(rng.choice(["plain", "stripes", "noise"])),
        amplitude=float(rng.uniform(3, 12)),
        seed=int(rng.integers(2**31)),
    )
    return Scene(tuple(sprites), background, tuple(dots)), kinds


def visible_boxes(scene: Scene) -> NDArray[np.float32]:
    """Boxes (x0, y0, x1, y1) of what is seen of each sprite, in frame sides: (sprites, F, 4); NaN where little is."""
    masks: list[NDArray[np.bool_]] = [np.asarray(sprite_distance(sprite) < 0) for sprite in scene.sprites]
    found = np.full((len(masks), FRAMES, 4), np.nan, np.float32)
    for index, (sprite, mask_FHW) in enumerate(zip(scene.sprites, masks, strict=True)):
        seen_FHW: NDArray[np.bool_] = mask_FHW.copy()
        for later in masks[index + 1 :]:
            seen_FHW[later] = False
        # That of a square of its radius; the shapes have about one area.
        there_F = seen_FHW.sum((1, 2)) >= LEAST_VISIBLE * (2 * 0.89 * sprite.radius) ** 2
        for axis, place in ((1, 0), (2, 1)):  # columns give x, rows y
            line_FS: NDArray[np.bool_] = np.asarray(seen_FHW.any(axis))
            found[index, :, place] = line_FS.argmax(1) / SIZE
            found[index, :, place + 2] = 1 - line_FS[:, ::-1].argmax(1) / SIZE
        found[index, ~there_F] = np.nan
    return found


def drawn(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """A chunk of clips.

    Returns:
        Frames (B, F, H, W, 3); boxes (B, OBJECTS, F, 4), NaN where nothing is; and what they hold (B, OBJECTS), -1 for
        nothing.
    """
    rng = np.random.default_rng([seed, 7])
    frames = np.empty((CHUNK, FRAMES, SIZE, SIZE, 3), np.uint8)
    boxes = np.full((CHUNK, OBJECTS, FRAMES, 4), np.nan, np.float32)
    kinds = np.full((CHUNK, OBJECTS), -1, np.int64)
    for row in range(CHUNK):
        scene, named = scattered_scene(rng)
        if scene.sprites:
            frames[row] = render(scene)
            boxes[row, : len(named)] = visible_boxes(scene)
            kinds[row, : len(named)] = named
        else:
            unseen = Sprite("circle", (0.0, 0.0, 0.0), 1.0, np.full((FRAMES, 2), -1.0))
            frames[row] = render(Scene((unseen,), scene.background, scene.distractors))
    return frames, boxes, kinds


def _one_thread() -> None:
    torch.set_num_threads(1)


def drawn_in_parallel(chunks: int, workers: int, first: int = 0) -> Iterator[Any]:
    """Chunks of clips, drawn by processes of their own; in this one where ``workers`` is 0."""
    seeds = range(first, first + chunks)
    if workers == 0:
        yield from map(drawn, seeds)
        return
    context = multiprocessing.get_context("spawn")  # a process that has used a GPU cannot be forked
    processes = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    try:
        yield from processes.map(drawn, seeds)
    finally:
        processes.shutdown(cancel_futures=True)


class Decoders:
    """Sends clips through the shipped VAEs, with their latents disturbed.

    Args:
        device: torch device of the VAEs.
    """

    def __init__(self, device: str) -> None:
        import diffusers

        self.vaes: list[Any] = [
            getattr(diffusers, name).from_pretrained(hub.path(model), subfolder="vae").eval().to(device)
            for model, name in DECODERS.items()
        ]

    @torch.no_grad()
    def __call__(self, frames_BFHWC: Tensor, index: int, random: torch.Generator) -> Tensor:
        """What the VAE of that index makes of clips: uint8 frames of the same shape.

        Args:
            frames_BFHWC: uint8, on the device.
            index: of the VAE, in the order of ``DECODERS``.
            random: source of the noise, and of the strength of the faint other clip, that latents are disturbed by.
        """
        video = frames_BFHWC.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        latents = self.vaes[index].encode(video).latent_dist.mode()
        strength = torch.rand(2, len(latents), 1, 1, 1, 1, generator=random, device=random.device).to(latents)
        noise = torch.randn(latents.shape, generator=random, device=random.device).to(latents)
        # Half of the clips are hardly disturbed; the others by up to a third.
        latents = latents + 0.35 * strength[0].square() * latents.std() * noise
        latents = latents.lerp(latents.roll(1, 0), 0.3 * strength[1].square())
        decoded = self.vaes[index].decode(latents).sample
        return ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1)


class Pool:
    """Clips in the memory of a device, drawn once, of which each batch of frames is made in another way.

    Args:
        clips: how many at most; rounded up to whole chunks.
        device: torch device.
        workers: processes that draw; 0 for none.
        first: seed of the first chunk.
        seconds: no more are drawn after this time.
    """

    def __init__(self, clips: int, device: str, workers: int, first: int = 0, seconds: float = float("inf")) -> None:
        began = time.monotonic()
        chunks = -(-clips // CHUNK)
        decoders = Decoders(device)
        random = torch.Generator(device).manual_seed(first)
        self.frames_BFHWC = torch.empty((chunks * CHUNK, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
        boxes, kinds = [], []
        self.source: list[str] = []
        bar = tqdm(drawn_in_parallel(chunks, workers, first), total=chunks, desc="clips", mininterval=5)
        for chunk, (frames, found, named) in enumerate(bar):
            part = torch.from_numpy(frames).to(device)
            way = (0, 1, 1, 2)[chunk % 4]  # half through the decoder of the default generator
            if way:
                part = decoders(part, way - 1, random)
            self.source.append(["rendered", *DECODERS][way])
            self.frames_BFHWC[chunk * CHUNK : (chunk + 1) * CHUNK] = part
            boxes.append(found)
            kinds.append(named)
            if time.monotonic() - began > seconds:
                break
        self.boxes, self.kinds = np.concatenate(boxes), np.concatenate(kinds)

    def batch(self, seed: int, count: int) -> tuple[Tensor, list[NDArray[np.float32]], list[NDArray[np.int64]]]:
        """Frames (B, 3, H, W) in [0, 1], varied; and per frame its entities' boxes (N, 4) and kinds (N,)."""
        rng = np.random.default_rng([seed, 8])
        clips, times = rng.integers(len(self.boxes), size=count), rng.integers(FRAMES, size=count)
        pixels = self.frames_BFHWC[torch.from_numpy(clips), torch.from_numpy(times)]
        others = self.frames_BFHWC[torch.from_numpy(clips), torch.from_numpy((times + 3) % FRAMES)]
        images = varied(pixels, others, torch.Generator(pixels.device).manual_seed(seed))
        flipped = rng.random(count) < 0.5
        mirror = torch.from_numpy(flipped).to(images.device)[:, None, None, None]
        images = torch.where(mirror, images.flip(-1), images)
        boxes, kinds = [], []
        for clip, frame, flip in zip(clips, times, flipped, strict=True):
            found = self.boxes[clip, :, frame]
            there = ~np.isnan(found[:, 0])
            found = found[there]
            boxes.append((1 - found)[:, [2, 1, 0, 3]] * [1, 0, 1, 0] + found * [0, 1, 0, 1] if flip else found)
            kinds.append(self.kinds[clip][there])
        return images, [box.astype(np.float32) for box in boxes], kinds


def varied(frames_BHWC: Tensor, others_BHWC: Tensor, random: torch.Generator) -> Tensor:
    """Frames (B, 3, H, W) in [0, 1] with ghosts of others, blur, noise, and light of another strength and tint.

    ``random`` is of the frames' device.
    """

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(frames_BHWC), *shape, generator=random, device=random.device)

    images, ghosts = (part.permute(0, 3, 1, 2).float() / 255 for part in (frames_BHWC, others_BHWC))
    images = images.lerp(ghosts, (draw(-0.4, 0.3, 1, 1, 1)).clamp(min=0))
    offsets = torch.arange(-2, 3, device=images.device)
    width = draw(-0.7, 1.2, 1).clamp(min=0.15)
    kernel_B5 = torch.softmax(-offsets.square() / (2 * width.square()), dim=1)
    size = images.shape
    flat = images.transpose(0, 1)  # each image is a channel of its own to the convolution
    for shape in ((-1, 1, 5, 1), (-1, 1, 1, 5)):
        pad = (0, 0, 2, 2) if shape[2] == 5 else (2, 2, 0, 0)
        flat = F.conv2d(F.pad(flat, pad, mode="replicate"), kernel_B5.reshape(shape), groups=size[0])
    images = flat.transpose(0, 1)
    images = images * draw(0.8, 1.15, 1, 1, 1) + draw(-0.03, 0.03, 3, 1, 1)
    noise = torch.randn(size, generator=random, device=random.device)
    return (images + draw(-0.03, 0.05, 1, 1, 1).clamp(min=0) * noise).clamp(0, 1)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))
