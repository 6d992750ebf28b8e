"""What a detector is trained for: predicted boxes matched to entities by the Hungarian algorithm, as in DETR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cvg.shapes.renderer import SHAPES
from cvg.shapes.world import ENTITIES

PHRASES = (*ENTITIES, *SHAPES)
"""What is asked for, with and without an article: every entity, of which most are absent, and shapes of any colour."""
WEIGHTS = {"named": 2.0, "sides": 5.0, "overlap": 2.0}
"""Of the losses, and of the costs of matching, as in DETR."""


def names(kinds_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Which of ``PHRASES`` name entities of these kinds: (N, phrases), 0 or 1."""
    found = np.zeros((len(kinds_N), len(PHRASES)), np.float32)
    found[np.arange(len(kinds_N)), kinds_N] = 1
    found[np.arange(len(kinds_N)), len(ENTITIES) + kinds_N % len(SHAPES)] = 1
    return found


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised intersection over union of boxes (..., 4), elementwise over leading dimensions that broadcast."""

    def area(low: Tensor, high: Tensor) -> Tensor:
        return (high - low).clamp(min=0).prod(-1)

    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    inside = area(low, high)
    union = area(first[..., :2], first[..., 2:]) + area(second[..., :2], second[..., 2:]) - inside
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = area(low, high).clamp(min=1e-6)
    return inside / union.clamp(min=1e-6) - (hull - union) / hull


def matched(logits: Tensor, boxes: Tensor, wanted: Tensor, named: Tensor, there: Tensor) -> NDArray[np.int64]:
    """The predicted box of each entity, by the Hungarian algorithm.

    Args:
        logits: (B, P, phrases).
        boxes: (B, P, 4).
        wanted: entities' boxes (B, N, 4).
        named: their phrases (B, N, phrases), 0 or 1.
        there: (B, N), false for what only fills the tensor.

    Returns:
        Rows of (image, entity, place): (matches, 3).
    """
    with torch.no_grad():
        likely = torch.einsum("bpq,bnq->bpn", logits.sigmoid(), named) / named.sum(-1).clamp(min=1)[:, None]
        sides = (boxes[:, :, None] - wanted[:, None]).abs().sum(-1)
        overlap = generalised_iou(boxes[:, :, None], wanted[:, None])
        cost = WEIGHTS["sides"] * sides - WEIGHTS["named"] * likely - WEIGHTS["overlap"] * overlap
    costs, counts = cost.cpu().numpy(), there.sum(1).cpu().numpy()
    rows = []
    for image, count in enumerate(counts):
        places, entities = linear_sum_assignment(costs[image, :, :count])
        rows += [(image, entity, place) for place, entity in zip(places, entities, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 3)


def losses(found: tuple[Tensor, Tensor, Tensor], boxes: list[Any], kinds: list[Any]) -> dict[str, Tensor]:
    """Focal loss of the phrases at all places; distance and overlap of matched boxes; and objectness."""
    logits, predicted, objectness = found
    device = logits.device
    most = max(1, *(len(found) for found in boxes))
    padded = np.zeros((len(boxes), most, 4), np.float32)
    named = np.zeros((len(boxes), most, len(PHRASES)), np.float32)
    there = np.zeros((len(boxes), most), bool)
    for row, (box, kind) in enumerate(zip(boxes, kinds, strict=True)):
        padded[row, : len(box)], named[row, : len(box)], there[row, : len(box)] = box, names(kind), True
    wanted, phrases, real = (torch.from_numpy(value).to(device) for value in (padded, named, there))
    image, entity, place = torch.from_numpy(matched(logits, predicted, wanted, phrases, real)).to(device).unbind(1)
    target = torch.zeros_like(logits)
    target[image, place] = phrases[image, entity]
    count = max(1, len(image))
    chance = logits.sigmoid()
    missed = (target - chance).abs()
    weight = (0.25 * target + 0.75 * (1 - target)) * missed.square()
    focal = (weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum() / count
    sides = (predicted[image, place] - wanted[image, entity]).abs().sum() / count
    overlap = (1 - generalised_iou(predicted[image, place], wanted[image, entity])).sum() / count
    filled = torch.zeros_like(objectness)
    filled[image, place] = 1
    something = F.binary_cross_entropy_with_logits(objectness, filled)
    parts = {"named": focal, "sides": sides, "overlap": overlap}
    loss = sum((WEIGHTS[name] * value for name, value in parts.items()), something)
    return {"loss": loss, **parts, "objectness": something}
