"""What stored maps look like, what a classifier makes of them, and which tell about the label: parts of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvg.classifier import CompositionClassifier, group_log_probs
from cvg.common.files import atomic
from cvg.composition.labels import SLOT_NAMES
from cvg.grounding.maps import normalise
from cvg.probing.probe import Probe, Score
from cvg.reporting import heatmaps
from cvg.reporting.page import Section, image
from cvg.reporting.strips import blend, colour_key, strips
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo


@dataclass
class Part:
    """One section of a page, and its numbers.

    Attributes:
        name: what it is: probe, aggregator or sample.
        title: of the section.
        note: what is shown and how to read it.
        pictures: PNG bytes and caption, by file name without suffix.
        rows: a table.
        numbers: the same as plain values, for JSON.
    """

    name: str
    title: str
    note: str
    pictures: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    rows: list[list[str]] = field(default_factory=list)
    numbers: Any = None

    def section(self) -> Section:
        """As :mod:`cvg.reporting.page` takes it."""
        images = [image(data, caption) for data, caption in self.pictures.values()]
        return {"title": self.title, "note": self.note, "images": images, "rows": self.rows}

    def write(self, folder: Path) -> None:
        """Write the pictures as PNG files."""
        for name, (data, _) in self.pictures.items():
            with atomic(folder / f"{name}.png") as path:
                path.write_bytes(data)


def _percent(score: Score) -> str:
    return f"{100 * score.accuracy:.0f} ({100 * score.low:.0f} to {100 * score.high:.0f})"


def probe_part(probe: Probe, info: ShardInfo) -> Part:
    """Where the label is: a linear probe on each step, layer and head, and on all of a step's together."""
    cells = probe.each()
    everything = range(probe.layers)
    joint = [probe.score(probe.together([step], everything), probe.steps) for step in range(probe.steps)]
    names = list(cells)
    rows = [["noise level", *[name.replace("_", " ") for name in names]]]
    rows += [
        [f"{sigma:.2f}", *[_percent(scores[name][0]) for name in names]]
        for sigma, scores in zip(info.sigmas, joint, strict=True)
    ]
    rows.append(["chance", *[f"{100 * cells[name][0][0][0].chance:.0f}" for name in names]])
    videos = {name: len(group.videos_N.unique()) for name, group in probe.groups.items()}
    pictures, numbers = {}, {}
    for name in names:
        count = f"{videos[name]} videos" if name in videos else "all groups, each label told within its own"
        caption = f"{name.replace('_', ' ')} ({count}): one layer and head alone. Bold: clearly above chance"
        pictures[f"probe-{name}"] = (heatmaps.probe_map(cells[name], info.sigmas, info.layers, info.heads), caption)
        numbers[name] = {
            "videos": videos.get(name),
            "chance": cells[name][0][0][0].chance,
            "together": [asdict(scores[name][0]) for scores in joint],
            "alone": {
                f"{what}_SLA": [[[getattr(score, what) for score in row] for row in step] for step in cells[name]]
                for what in ("accuracy", "low", "high", "above", "leak")
            },
        }
    whole = "all" if "all" in cells else names[0]
    caption = (
        "Words in the maps: a probe trained under p+, and how much less often it is right of the same videos under p-"
    )
    pictures["probe-leak"] = (heatmaps.leak_map(cells[whole], info.sigmas, info.layers, info.heads), caption)
    note = (
        "Percent of maps whose label a linear probe reads right: a ridge regression on the maps of one layer and head "
        "at one noise level, cross-validated over whole videos, p+ and p- alike. Labels are told within their group. "
        "The table has all layers and heads of a noise level together, with 95% intervals. No classifier is involved. "
        "Maps that tell the label under p+ and another one under p- show the prompt's words, not the video."
    )
    if probe.left_out:
        few = ", ".join(f"{name.replace('_', ' ')} ({count})" for name, count in probe.left_out.items())
        note += f" Left out for too few videos: {few}."
    return Part("probe", "Which maps tell the label", note, pictures, rows, numbers)


def weights_part(classifier: CompositionClassifier) -> Part:
    """The aggregator's learned weights."""
    config, weight_LA = classifier.config, classifier.aggregator.weight_LA.detach().double().numpy()
    note = (
        "How the aggregator mixes the maps of layers and heads into a volume, the same at every step: signed weights, "
        "in percent of the sum of their sizes."
    )
    if classifier.aggregator.depth:
        note += " Its Transformer corrects this mean; what that makes of the maps is not in these numbers."
    picture = heatmaps.weight_map(weight_LA, config.layers, config.heads)
    caption = "Teal: evidence for an entity where the map is bright; brown: where it is dark"
    numbers = {"layers": config.layers, "heads": config.heads, "weight_LA": weight_LA.tolist()}
    return Part("aggregator", "What the aggregator weighs", note, {"weights": (picture, caption)}, numbers=numbers)


def _drawn(volume_KFHW: Tensor, entities: int) -> Any:
    return blend(np.full((*volume_KFHW.shape[1:], 3), 255, np.uint8), volume_KFHW, entities)


def _side_by_side(sigmas: Sequence[float], pictures: dict[str, list[Any]]) -> bytes:
    """Rows are noise levels, p+ on the left and p- on the right."""
    rows = [(f"noise\nlevel {s:.2f}", [pictures[side][i] for side in pictures]) for i, s in enumerate(sigmas)]
    return strips(rows, [f"maps under {side}, frame by frame" for side in pictures])


@torch.no_grad()
def sample_part(
    record: Record, info: ShardInfo, classifier: CompositionClassifier | None, only: tuple[int | None, int | None]
) -> Part:
    """One record's maps under both prompts, and what the classifier sees in them and says.

    Args:
        record: with the maps of ``info``.
        info: its steps, layers and heads: with a classifier, the classifier's.
        classifier: shown with its volumes and probabilities, if there is one.
        only: a layer and a head (numbers of the generator) whose maps are shown besides the mean.
    """
    entities, sides = sum(record.present), {"p+": record.positive_SLAKFHW, "p-": record.negative_SLAKFHW}
    maps = {side: normalise(found.float()) for side, found in sides.items()}
    names = [str(entity["phrase"]) for entity in record.meta.get("entities_positive", [])] or list(SLOT_NAMES)
    colours = colour_key(names)
    looks: dict[str, tuple[int | None, int | None]] = {"mean over all layers and heads": (None, None)}
    if only != (None, None):
        named = zip(("layer", "head"), only, strict=True)
        looks[", ".join(f"{what} {number} alone" for what, number in named if number is not None)] = only
    pictures = {}
    for what, (layer, head) in looks.items():
        rows, columns = _chosen(info.layers, layer), _chosen(info.heads, head)
        chosen = {
            side: [_drawn(step[rows][:, columns].mean((0, 1)), entities) for step in found]
            for side, found in maps.items()
        }
        name = f"{record.key}.maps" + "".join(
            f"-{kind}{number}" for kind, number in (("layer", layer), ("head", head)) if number is not None
        )
        caption = f"Entity maps per latent frame, {what} ({colours})"
        pictures[name] = (_side_by_side(info.sigmas, chosen), caption)
    numbers: dict[str, Any] = {
        "key": record.key,
        "label": record.label,
        "negative_label": record.meta["negative_label"],
        "prompt_positive": record.meta["prompt_positive"],
        "prompt_negative": record.meta["prompt_negative"],
    }
    if classifier is not None:
        pictures |= _verdict(record, info, classifier, sides, names, numbers)
    note = (
        f"The video shows: {record.label}. p+: “{record.meta['prompt_positive']}”. p-: "
        f"“{record.meta['prompt_negative']}”. A map's colour begins at its median over all frames and is full from its "
        "99th percentile on."
    )
    return Part("sample", f"Sample {record.key}", note, pictures, numbers=numbers)


def _chosen(available: list[int], wanted: int | None) -> list[int]:
    return list(range(len(available))) if wanted is None else [available.index(wanted)]


def _verdict(
    record: Record,
    info: ShardInfo,
    classifier: CompositionClassifier,
    sides: dict[str, Tensor],
    names: list[str],
    numbers: dict[str, Any],
) -> dict[str, tuple[bytes, str]]:
    """Pictures of volumes and probabilities; the probabilities are added to the numbers."""
    present_1K, steps_1S = torch.tensor([record.present]), torch.ones(1, len(info.sigmas), dtype=torch.bool)
    group = classifier.labels.group_indices(record.label)
    shown: dict[str, list[Any]] = {}
    said: dict[str, dict[str, float]] = {}
    for side, found in sides.items():
        phi = classifier.volume(found[None], present_1K, steps_1S)
        chances = group_log_probs(classifier.classify(phi, present_1K), group)[0].exp()
        said[side] = {classifier.labels.labels[index].name: float(chances[index]) for index in group}
        shown[side] = []
        for volume_KFHW in phi[0]:
            video = classifier.backbone.video(volume_KFHW[None])
            if video is None:
                shown[side].append(_drawn(volume_KFHW, sum(record.present)))
            else:
                shown[side].append(video[0].permute(0, 2, 3, 1).numpy())
    numbers["probabilities"] = said
    if (backbone := classifier.config.backbone.name) != "vlm":
        reader = "head" if backbone == "none" else backbone
        seen, colours = f"which the {reader} reads as it is (there is no VLM)", colour_key(names)
    else:  # one picture has a channel for each entity; of several, the subject's comes first
        channels = zip(("red channel", "blue channel", "green channel"), names, strict=False)
        seen, colours = "as the frozen VLM is shown it", ", ".join(f"{channel}: {name}" for channel, name in channels)
    return {
        f"{record.key}.volume": (_side_by_side(info.sigmas, shown), f"The volume of each step, {seen} ({colours})"),
        f"{record.key}.verdict": (
            heatmaps.verdict_bars(said, record.label, str(record.meta["negative_label"])),
            "What the classifier makes of all steps together, within the label's group",
        ),
    }
