"""Open-vocabulary detectors of transformers: where in frames is what phrases name, and how surely.

Axes: F frames, H and W pixels, P boxes of a frame, N phrases, 4 the box (left, top, right, bottom) in frame sides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cvg.classifier.backbones import loading
from cvg.common import hub
from cvg.common.errors import PromptError
from cvg.common.fingerprint import whole_fingerprint
from cvg.judging.base import Frames

MOST_BOXES = 64
"""Boxes that are kept of a frame, the surest ones."""


@dataclass(frozen=True)
class Detections:
    """What a detector found in one frame.

    Attributes:
        boxes_P4: in frame sides, within the frame.
        scores_PN: how surely each box is what each phrase names, 0 to 1.
    """

    boxes_P4: NDArray[np.float32]
    scores_PN: NDArray[np.float32]


class Detector(ABC):
    """A frozen open-vocabulary detector.

    Args:
        name: a shipped name, a folder or a Hub id.
        path: where that is.
        device: torch device.
        batch_size: frames that are looked at together.

    Raises:
        ModelError: it cannot be loaded.
    """

    threshold: ClassVar[float]
    """Score from which on a box is taken for what a phrase names."""

    def __init__(self, name: str, path: str, device: torch.device, batch_size: int = 16) -> None:
        self.name, self.device, self.batch_size = name, device, batch_size
        self.processor = loading.processor(path, "judge detector")
        self.mean_C, self.std_C = (part.to(device) for part in loading.normalisation(path, "judge detector"))
        self.tokenizer = loading.tokenizer(path, "judge detector")
        model = loading.load(path, torch.float32, "judge detector", "AutoModelForZeroShotObjectDetection")
        self.model: Any = model.eval().requires_grad_(False).to(device)

    @cached_property
    def identity(self) -> str:
        """What every weight of the model, and how it is shown frames, determine."""
        return f"{whole_fingerprint(self.model.state_dict())} {sorted(self.processor.items(), key=str)}"

    @torch.no_grad()
    def __call__(self, videos: Sequence[Frames], phrases: Sequence[Sequence[str]]) -> list[list[Detections]]:
        """Look for phrases in every frame.

        Args:
            videos: (F, H, W, 3) uint8 RGB each.
            phrases: of each video, at least one.

        Returns:
            Per video, per frame, the boxes whose best score is at least half of the threshold.

        Raises:
            PromptError: phrases that are too long for the model.
        """
        found: list[list[Detections]] = [[] for _ in videos]
        for indices in _batches(videos, self.batch_size):
            frames = torch.from_numpy(np.stack([videos[video][frame] for video, frame in indices])).to(self.device)
            asked = [phrases[video] for video, _ in indices]
            for (video, _), boxes_P4, scores_PN in zip(indices, *self.detect(frames, asked), strict=True):
                found[video].append(self._kept(boxes_P4, scores_PN[:, : len(phrases[video])]))
        return found

    def _kept(self, boxes_P4: Tensor, scores_PN: Tensor) -> Detections:
        best = scores_PN.amax(1)
        boxes_P4 = boxes_P4.clamp(0, 1)
        whole = (boxes_P4[:, 2:] > boxes_P4[:, :2]).all(1)
        order = best.masked_fill(~whole, -1).argsort(descending=True, stable=True)[:MOST_BOXES]
        order = order[best[order].ge(self.threshold / 2) & whole[order]]
        return Detections(boxes_P4[order].float().cpu().numpy(), scores_PN[order].float().cpu().numpy())

    def normalised(self, images_BCHW: Tensor) -> Tensor:
        """Images in [0, 1] as the model takes them."""
        return (images_BCHW - self.mean_C.view(3, 1, 1)) / self.std_C.view(3, 1, 1)

    @abstractmethod
    def detect(self, frames_BHWC: Tensor, phrases: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """All that the model has to say.

        Args:
            frames_BHWC: uint8 RGB, on the device.
            phrases: of each frame.

        Returns:
            Boxes (B, P, 4) in frame sides, which may reach beyond the frame; and scores (B, P, N), N that of the frame
            with the most phrases.
        """


class Owlv2(Detector):
    """``Owlv2ForObjectDetection``: each phrase is a query of its own; frames are padded below and to the right."""

    threshold = 0.2

    def detect(self, frames_BHWC: Tensor, phrases: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """See :meth:`Detector.detect`."""
        most = max(map(len, phrases))
        ids, mask = self._tokens([phrase for asked in phrases for phrase in [*asked, *["."] * (most - len(asked))]])
        height, width = frames_BHWC.shape[1:3]
        out = self.model(input_ids=ids, attention_mask=mask, pixel_values=self.pixels(frames_BHWC))
        centre, size = out.pred_boxes.split(2, -1)
        side = max(height, width)
        scale = torch.tensor([side / width, side / height] * 2, device=self.device)
        return torch.cat([centre - size / 2, centre + size / 2], -1) * scale, out.logits.sigmoid()

    def pixels(self, frames_BHWC: Tensor) -> Tensor:
        """Pixel values (B, 3, H, W), as the model's processor makes them.

        That one smooths what it makes smaller by a Gaussian instead of a triangle, and only runs on the CPU.
        """
        images = frames_BHWC.permute(0, 3, 1, 2).float() / 255
        height, width = images.shape[2:]
        side = max(height, width)
        images = F.pad(images, (0, side - width, 0, side - height))
        size = self.model.config.vision_config.image_size
        return self.normalised(F.interpolate(images, (size, size), mode="bilinear", antialias=True))

    def _tokens(self, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
        longest = self.model.config.text_config.max_position_embeddings
        for phrase, ids in zip(phrases, self.tokenizer(list(phrases)).input_ids, strict=True):
            if len(ids) > longest:
                raise PromptError(
                    f"judge detector {self.name}: {phrase!r} has {len(ids)} tokens of at most {longest}; shorten it"
                )
        tokens = self.tokenizer(list(phrases), padding="max_length", max_length=longest, return_tensors="pt")
        return tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)


class GroundingDino(Detector):
    """``GroundingDinoForObjectDetection``: one text of all phrases, each of which scores as its best token."""

    threshold = 0.3

    def detect(self, frames_BHWC: Tensor, phrases: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """See :meth:`Detector.detect`."""
        texts, spans = zip(*map(_one_text, phrases), strict=True)
        tokens = self.tokenizer(list(texts), padding=True, return_offsets_mapping=True, return_tensors="pt")
        longest = self.model.config.max_text_len
        if tokens.input_ids.shape[1] > longest:
            text = max(texts, key=len)
            raise PromptError(f"judge detector {self.name}: {text!r} has more than {longest} tokens; name fewer")
        offsets = tokens.pop("offset_mapping")
        pixels = self.pixels(frames_BHWC)
        mask = torch.ones(len(pixels), *pixels.shape[2:], dtype=torch.long, device=self.device)
        out = self.model(**tokens.to(self.device), pixel_values=pixels, pixel_mask=mask)
        centre, size = out.pred_boxes.split(2, -1)
        chance = out.logits.sigmoid()
        scores = chance.new_zeros(*chance.shape[:2], max(map(len, phrases)))
        for row, named in enumerate(spans):
            for column, (start, end) in enumerate(named):
                mine = (offsets[row, :, 0] < end) & (offsets[row, :, 1] > start)
                at = mine.nonzero()[:, 0].to(self.device)
                if len(at):
                    scores[row, :, column] = chance[row][:, at].amax(-1)
        return torch.cat([centre - size / 2, centre + size / 2], -1), scores

    def pixels(self, frames_BHWC: Tensor) -> Tensor:
        """Pixel values (B, 3, H, W), as the model's processor makes them."""
        from transformers.image_transforms import get_size_with_aspect_ratio

        images = frames_BHWC.permute(0, 3, 1, 2).float()
        size = self.processor.get("size") or {}
        if "height" in size:
            target = (size["height"], size["width"])
        else:
            edges = size.get("shortest_edge", 800), size.get("longest_edge", 1333)
            target = get_size_with_aspect_ratio(tuple(images.shape[2:]), *edges)
        # The processor resizes bytes.
        images = F.interpolate(images, target, mode="bilinear", antialias=True).round().clamp(0, 255)
        return self.normalised(images / 255)


DETECTORS: dict[str, type[Detector]] = {"owlv2": Owlv2, "grounding-dino": GroundingDino}
"""``model_type`` of a config.json -> its class."""


def load_detector(name: str, device: torch.device, batch_size: int = 16) -> Detector:
    """The detector of that name.

    Args:
        name: a shipped name (``shapes-detector``), a folder or a Hub id.
        device: torch device.
        batch_size: frames that are looked at together.

    Raises:
        ModelError: it is not one of :data:`DETECTORS`, or cannot be loaded.
    """
    path = str(hub.path(name))
    config = loading.config(path, DETECTORS, "judge detector")
    return DETECTORS[config.model_type](name, path, device, batch_size)


def _batches(videos: Sequence[Frames], size: int) -> Iterator[list[tuple[int, int]]]:
    """(video, frame) of all frames, in order, so that those of a batch have one shape."""
    batch: list[tuple[int, int]] = []
    for video, frames in enumerate(videos):
        for frame in range(len(frames)):
            if batch and (len(batch) == size or videos[batch[0][0]].shape[1:] != frames.shape[1:]):
                yield batch
                batch = []
            batch.append((video, frame))
    if batch:
        yield batch


def _one_text(phrases: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Phrases as Grounding DINO was trained to read them, in lower case with full stops, and where each of them is."""
    text, spans = "", []
    for phrase in phrases:
        words = " ".join(phrase.lower().replace(".", " ").split())
        spans.append((len(text), len(text) + len(words)))
        text += f"{words}. "
    return text.rstrip(), spans
