"""What the frozen VLM is worth for labels that the classifier was not trained on.

A head anchored in text is trained with some labels held out: behind the frozen VLM, behind the same VLM whose vision
has random weights, and without one; its anchors are always those of the trained text tower. Beside it stands the joint
head, which is the VLM's own comparison of the volume with text. All are then asked about labels and wordings that they
have seen and that they have not: for accuracy on the validation records, and for the guided gain.

    python -m benchmarks.transfer --shards '[runs/demo/shards]' --out runs/transfer
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from benchmarks.trained import trained
from cvg.classifier.competition import group_log_probs
from cvg.classifier.model import CompositionClassifier
from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import ModelError, SettingsError
from cvg.common.files import read_json, write_json
from cvg.composition import LabelSet
from cvg.evaluation.summary import gain
from cvg.training.datamodule import CompositionDataModule
from data_prep.pretrain.captioned import WORDINGS
from data_prep.steps import Step, run_step

LABELS = LabelSet.load("shapes")
HELD_OUT: dict[str, list[str]] = {
    "nothing": [],
    "left, above": ["left", "above"],
    "spatial": [label.name for label in LABELS.groups["spatial"]],
    "motion": [label.name for label in LABELS.groups["motion"]],
}
BACKBONES = {
    "frozen VLM": "shapes_anchored",
    "random VLM": "shapes_anchored",
    "no VLM": "shapes_anchored",
    "frozen VLM, joint": "shapes_joint",
}
"""What is trained, and its configuration over shapes.yaml; the last is the VLM's own comparison of volume and text."""


def other_wordings() -> LabelSet:
    """The world's labels in words that the VLM's text tower has read and no classifier was trained with."""
    groups = LABELS.to_dict()
    for entry in groups.values():
        for name in entry["labels"]:
            entry["labels"][name] = [w for w in WORDINGS[name].wordings if w not in LABELS[name].wordings]
    return LabelSet(groups)


def diagonals() -> LabelSet:
    """Motion in eight directions, of which four are the world's."""
    return LabelSet({"motion": WORDINGS.to_dict()["motion"]})


def group(name: str) -> LabelSet:
    """One group of the world's labels, so that all prompts ask for it."""
    return LabelSet({name: LABELS.to_dict()[name]})


def random_vision(vlm: Path, folder: Path) -> Path:
    """The VLM with a vision tower as before training; its text tower, which makes the anchors, is the trained one."""
    trained = AutoModel.from_pretrained(vlm, dtype=torch.float32, trust_remote_code=False)
    text = {name: value for name, value in trained.state_dict().items() if name.startswith("text_")}
    if not text:
        raise ModelError(f"vlm {vlm}: no text tower in it, and anchors are made there; choose a dual encoder")
    torch.manual_seed(0)
    model = AutoModel.from_config(trained.config)
    model.load_state_dict(text, strict=False)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(vlm, trust_remote_code=False).save_pretrained(folder)
    settings = "preprocessor_config.json"
    (folder / settings).write_text((vlm / settings).read_text())
    return folder


def options(backbone: str, paths: dict[str, str], held_out: list[str], epochs: int) -> list[str]:
    """What a training is given besides shards and configurations."""
    given = ["--trainer.max_epochs", str(epochs), "--model.backbone_path", paths[backbone]]
    given += ["--model.backbone", "none"] if backbone == "no VLM" else []
    return given + (["--data.hold_out", json.dumps(held_out)] if held_out else [])


@torch.no_grad()
def accuracy(classifier: CompositionClassifier, shards: list[str], labels: list[str]) -> dict[str, float | None]:
    """Share of the validation records of these labels whose p+ it reads right, within the group."""
    wanted = torch.tensor([LABELS.index(name) for name in labels], dtype=torch.long)
    hits: list[bool] = []
    for batch in CompositionDataModule(shards, eval_batch_size=32).val_dataloader():
        asked = batch["valid"] & torch.isin(batch["label"], wanted)
        if not asked.any():
            continue
        steps = torch.ones(int(asked.sum()), len(classifier.config.sigmas), dtype=torch.bool)
        logits = classifier(batch["positive"][asked], batch["present"][asked], steps)
        for row, index in zip(logits, batch["label"][asked].tolist(), strict=True):
            name = LABELS.names[index]
            found = group_log_probs(row, classifier.labels.group_indices(name)).argmax()
            hits.append(classifier.labels.names[int(found)] == name)
    return {"right": sum(hits) / len(hits) if hits else None, "records": len(hits)}


@dataclass(frozen=True)
class Question:
    """What a classifier is asked after training.

    Attributes:
        row: of the table.
        held_out: a key of ``HELD_OUT``: which training it is asked of.
        labels: a video counts when one of its relations is of these.
        wording: label set of prompts and anchors; the world's when None.
    """

    row: str
    held_out: str
    labels: tuple[str, ...]
    wording: LabelSet | None = None


QUESTIONS = (
    Question("labels and wordings seen", "nothing", tuple(LABELS.names)),
    Question("wordings held out", "nothing", tuple(LABELS.names), other_wordings()),
    Question("diagonal motion held out", "nothing", tuple(diagonals().names[4:]), diagonals()),
    Question("left, above held out", "left, above", ("left", "above")),
    Question("spatial, from motion", "spatial", tuple(HELD_OUT["spatial"]), group("spatial")),
    Question("motion, from spatial", "motion", tuple(HELD_OUT["motion"]), group("motion")),
)


def main(
    shards: list[str],
    out: Path = Path("runs/transfer"),
    vlm: str = "shapes-clip",
    epochs: int = 6,
    prompts: int = 96,
    seed: int = 0,
    steps: int = 20,
    held_out: list[str] = list(HELD_OUT),  # noqa: B006  (never changed)
) -> None:
    """Train, ask, and write OUT/transfer.json; what OUT has already is not made again.

    Args:
        shards: folders of the shapes world's shards, of one generator.
        out: working folder.
        vlm: dual encoder with a text tower: a folder or shipped name.
        epochs: of every training.
        prompts: per set of prompts; those that do not ask for a label in question are not counted.
        seed: of prompts and initial noise.
        steps: denoising steps.
        held_out: which trainings: some of "nothing", "left, above", "spatial", "motion".
    """
    if unknown := sorted(set(held_out) - set(HELD_OUT)):
        raise SettingsError(f"held_out {unknown[0]!r}: expected some of {', '.join(map(repr, HELD_OUT))}")
    whole = Path(hub.path(vlm))
    paths = dict.fromkeys(BACKBONES, str(whole)) | {"random VLM": str(random_vision(whole, out / "random-vlm"))}
    rows: list[dict[str, Any]] = []
    for question in (q for q in QUESTIONS if q.held_out in held_out):
        for backbone in BACKBONES:
            folder = out / question.held_out.replace(", ", "-") / backbone.replace(", ", "-").replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            given = options(backbone, paths, HELD_OUT[question.held_out], epochs)
            path, new = trained(folder, shards, ["shapes", BACKBONES[backbone]], given)
            row = {"asked": question.row, "backbone": backbone}
            row |= ask(question, path, folder, shards, [prompts, seed, steps], new)
            rows.append(row)
            read = f"right of {row['records']} records {row['right']:.2f}; " if row["records"] else ""
            print(
                f"{row['asked']:26s}  {backbone:17s}  {read}of {row['videos']} videos unguided {row['unguided']:.2f}, "
                f"guided {row['guided']:.2f}",
                flush=True,
            )
            write_json(out / "transfer.json", {"vlm": vlm, "shards": shards, "prompts": prompts, "rows": rows})
    print(f"wrote {out / 'transfer.json'}")


def ask(
    question: Question, path: Path, folder: Path, shards: list[str], settings: Sequence[int], new: bool
) -> dict[str, Any]:
    """One row of the table; ``settings`` are prompts, seed and steps, ``new`` says whether it was just trained."""
    classifier = CompositionClassifier.from_pretrained(path)
    name = re.sub("[^a-z]+", "-", question.row)
    result = folder / f"{name}.json"
    command = ["cvg.evaluate", "--classifier", str(path), "--out", str(result), "--controls", "false"]
    for option, value in zip(("--prompts", "--seed", "--steps"), settings, strict=True):
        command += [option, str(value)]
    if question.wording is not None:
        labels = folder / f"{name}.yaml"
        labels.write_text(yaml.safe_dump(question.wording.to_dict(), sort_keys=False))
        command += ["--labels", str(labels)]
        classifier = classifier.with_labels(question.wording)
    run_step(Step(name, command, result), folder, after=new)
    asked = [row for row in read_json(result)["rows"] if set(row["labels"]) & set(question.labels)]
    unguided, guided = ([row[side]["right"] for row in asked] for side in ("unguided", "guided"))
    read = accuracy(classifier, shards, [label for label in question.labels if label in LABELS.names])
    return {
        **read,
        "videos": len(asked),
        "unguided": sum(unguided) / len(asked),
        "guided": sum(guided) / len(asked),
        "gain": gain(unguided, guided),
    }


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.transfer")
