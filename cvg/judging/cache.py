"""Keeps what a detector found in a video, so that the same video is not looked at twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cvg.common.files import atomic
from cvg.judging.base import Frames
from cvg.judging.detection import Detections

_LARGEST = 1 << 26


class DetectionCache:
    """A folder with a safetensors file per video, detector and phrases.

    Args:
        folder: made when something is put there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @staticmethod
    def key(frames_FHWC: Frames, identity: str, phrases: Sequence[str]) -> str:
        """What frames, detector and phrases determine.

        Args:
            frames_FHWC: those that are looked at.
            identity: of the detector.
            phrases: in the order of the scores.
        """
        said = json.dumps([identity, list(phrases), list(frames_FHWC.shape)])
        return hashlib.sha256(said.encode() + np.ascontiguousarray(frames_FHWC).tobytes()).hexdigest()[:32]

    def get(self, key: str, frames: int, phrases: int) -> list[Detections] | None:
        """What was found; None where it is not here, or is damaged.

        Args:
            key: of :meth:`key`.
            frames: that were looked at.
            phrases: that were looked for.
        """
        try:
            path = self._path(key)
            if path.stat().st_size > _LARGEST:
                return None
            parts = load(path.read_bytes())
            counts, boxes, scores = parts["counts"], parts["boxes"], parts["scores"]
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        whole = counts.shape == (frames,) and counts.dtype == np.int64 and (counts >= 0).all()
        if not whole or boxes.shape != (counts.sum(), 4) or scores.shape != (counts.sum(), phrases):
            return None
        if boxes.dtype != np.float32 or scores.dtype != np.float32 or not (0 <= boxes.min(initial=0) <= 1):
            return None
        ends = counts.cumsum()[:-1]
        return [Detections(*part) for part in zip(np.split(boxes, ends), np.split(scores, ends), strict=True)]

    def put(self, key: str, found: Sequence[Detections]) -> None:
        """Keep what was found.

        Raises:
            DataError: it cannot be written.
        """
        parts = {
            "counts": np.array([len(each.boxes_P4) for each in found], np.int64),
            "boxes": np.concatenate([each.boxes_P4 for each in found]),
            "scores": np.concatenate([each.scores_PN for each in found]),
        }
        with atomic(self._path(key)) as path:
            path.write_bytes(save(parts))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"
