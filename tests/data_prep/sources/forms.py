"""Rendered clips, written out as data sets are; in VidOR's form, which a benchmark has too, by `benchmarks`."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.rendered_set import HEIGHT, WIDTH, Clip, vidor
from benchmarks.rendered_set import clips as clips
from cvg.shapes.renderer import FPS, SIZE, render


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def vidstg(clip: Clip, predicates: dict[str, str]) -> list[dict[str, Any]]:
    """The entries of VidSTG: one for each relation that has a predicate, with the clip's own sentence, on *the* one."""
    sentence = clip.spec.prompt.replace("a ", "the ", 1)
    whole = vidor(clip, predicates)
    shared = {name: whole[name] for name in ("fps", "frame_count", "width", "height", "subject/objects")}
    return [
        {
            "vid": clip.name,
            **shared,
            "used_segment": {"begin_fid": 0, "end_fid": clip.frames},
            "used_relation": one,
            "temporal_gt": {"begin_fid": one["begin_fid"], "end_fid": one["end_fid"]},
            "captions": [{"description": sentence, "type": "thing", "target_id": one["subject_tid"]}],
            "questions": [{"description": "what is there?", "type": "thing", "target_id": one["subject_tid"]}],
        }
        for one in whole["relation_instances"]
    ]


def something(made: Sequence[Clip]) -> list[dict[str, Any]]:
    """The sentences of Something-Something v2: one relation a clip."""
    lines = []
    for clip in made:
        (relation,) = clip.spec.relations
        names = [f"a {clip.spec.entities[index]}" for index in relation.entities]
        (wording,) = clip.spec.wordings
        template = " ".join(["[Something]", wording, *["[something]"] * (len(names) - 1)])
        label = " ".join([names[0], wording, *names[1:]])
        lines.append({"id": clip.name, "label": label, "template": template, "placeholders": names})
    return lines


def something_else(clip: Clip) -> list[dict[str, Any]]:
    """Boxes of a clip as Something-Else has them: twelve a second, in pixels of the video, and those of a hand."""
    pictures, tracks = [], [clip.boxes(index) * SIZE for index in range(len(clip.spec.entities))]
    (relation,) = clip.spec.relations
    for number in range(int(clip.frames / FPS * 12)):
        frame = min(int((number + 0.5) / 12 * FPS), clip.frames - 1)
        found: list[dict[str, Any]] = [{"box2d": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}, "standard_category": "hand"}]
        for place, index in enumerate(relation.entities):
            box = dict(zip(("x1", "y1", "x2", "y2"), tracks[index][frame].tolist(), strict=True))
            found.append({"box2d": box, "category": "cup", "standard_category": f"{place:04d}"})
        pictures.append({"name": f"{clip.name}/{number + 1:04d}.jpg", "labels": found, "nr_instances": len(found)})
    return pictures


def coco(made: Sequence[Clip], every: int = 1) -> dict[str, Any]:
    """Tracks of COCO's form, with boxes in every so many frames."""
    found: dict[str, list[dict[str, Any]]] = {"videos": [], "images": [], "tracks": [], "annotations": []}
    names = sorted({name for clip in made for name in clip.spec.entities})
    found["categories"] = [{"id": number, "name": name.replace(" ", "_")} for number, name in enumerate(names, 1)]
    for video, clip in enumerate(made, 1):
        found["videos"].append({"id": video, "name": f"train/{clip.name}", "fps": FPS})
        tracks = [clip.boxes(index) * np.tile((WIDTH, HEIGHT), 2) for index in range(len(clip.spec.entities))]
        for frame in sorted({*range(0, clip.frames, every), clip.frames - 1}):
            image = 1000 * video + frame
            picture = {"id": image, "video_id": video, "frame_index": frame, "width": WIDTH, "height": HEIGHT}
            found["images"].append(picture | {"file_name": f"train/{clip.name}/{frame:05d}.jpg"})
            for index, name in enumerate(clip.spec.entities):
                left, top, right, bottom = tracks[index][frame].tolist()
                box = {"image_id": image, "track_id": 10 * video + index, "category_id": names.index(name) + 1}
                found["annotations"].append(box | {"bbox": [left, top, right - left, bottom - top]})
        found["tracks"] += [{"id": 10 * video + i, "video_id": video} for i in range(len(clip.spec.entities))]
    return found


def pictures(folder: Path, clip: Clip) -> None:
    """The frames of a clip as files."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(render(clip.scene)):
        Image.fromarray(frame).save(folder / f"{number:05d}.jpg", quality=95)


def masks(clip: Clip) -> NDArray[np.bool_]:
    """Of the subject's box (F, H, W)."""
    (subject, *_) = clip.spec.relations[0].entities
    corners = np.round(clip.boxes(subject) * SIZE).astype(int)
    found = np.zeros((clip.frames, SIZE, SIZE), bool)
    for frame, (left, top, right, bottom) in enumerate(corners):
        found[frame, top:bottom, left:right] = True
    return found


def rle(mask_HW: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as COCO's text."""
    pixels = mask_HW.T.flatten()
    changes = np.nonzero(np.diff(pixels))[0] + 1
    counts = np.diff([0, *changes, len(pixels)]).tolist()
    counts = [0, *counts] if pixels[0] else counts
    text = ""
    for place, count in enumerate(counts):
        value, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 * more) + 48)
    return {"size": list(mask_HW.shape), "counts": text}


def expressions(made: Sequence[Clip], numbered: bool) -> dict[str, Any]:
    """Sentences on the subject of each clip, for masks by number or of pixels that are 1."""
    return {
        "videos": {
            clip.name: {
                "frames": [f"{frame:05d}" for frame in range(clip.frames)],
                "expressions": {
                    "0": {"exp": clip.spec.prompt}
                    | ({"anno_id": [number], "obj_id": [0]} if numbered else {"obj_id": "1"})
                },
            }
            for number, clip in enumerate(made)
        }
    }


def action_genome(made: Sequence[Clip], words: dict[str, str]) -> dict[str, Any]:
    """Where the subject of each clip is, as seen from the object, which is called a person."""
    return {
        f"{clip.name}.mp4/{frame:06d}.png": [
            {
                "class": clip.spec.entities[each.entities[0]].replace(" ", "_"),
                "bbox": (1.0, 2.0, 3.0, 4.0),
                "visible": True,
                "attention_relationship": ["unsure"],
                "spatial_relationship": [words[each.label]],
                "contacting_relationship": [],
                "metadata": {"tag": f"{clip.name}", "set": "train"},
            }
            for each in clip.spec.relations
            if each.label in words
        ]
        for clip in made
        for frame in range(0, clip.frames, 3)
    }


def captions_csv(path: Path, made: Sequence[Clip], **more: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["video", "caption", *more])
        writer.writeheader()
        writer.writerows({"video": f"{clip.name}.mp4", "caption": clip.spec.prompt, **more} for clip in made)
    return path


def captions_tar(path: Path, made: Sequence[Clip], folder: Path) -> Path:
    """Videos and captions in WebDataset's form, by turns as text and as JSON."""
    with tarfile.open(path, "w") as tar:
        for number, clip in enumerate(made):
            tar.add(folder / f"{clip.name}.mp4", f"{clip.name}.mp4")
            as_json = json.dumps({"caption": clip.spec.prompt, "licence": "CC0-1.0"}).encode()
            data, name = (as_json, "json") if number % 2 else (clip.spec.prompt.encode(), "txt")
            info = tarfile.TarInfo(f"{clip.name}.{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
