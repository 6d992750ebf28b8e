"""A judge that asks a vision-language model yes/no questions about a video, the rivals' as well as the label's own.

Such models like to say yes. So of each label of a group its question is asked, and what counts is by how much the yes
to one is more likely than the yes to any other. Whether an entity is there at all is asked both ways too.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from cvg.classifier.backbones import loading
from cvg.common import hub
from cvg.common.errors import ModelError, SettingsError, require
from cvg.composition import Composition, LabelSet, Relation
from cvg.judging.base import Frames, Judge, Reading, checked_frames
from cvg.judging.frames import grid, pictures

YES, NO = ("yes", "Yes", "YES"), ("no", "No", "NO")
THERE, MISSING = "Is there any {entity} in the video?", "Is there no {entity} in the video?"
SAID = {
    "frames": "These are {frames} frames of a video, in order. {question} Answer yes or no.",
    "grid": "This picture shows {frames} frames of a video, in order, row by row. {question} Answer yes or no.",
}


class VlmJudge(Judge):
    """Reads the labels that have a question; the others it leaves open, and their entities it does not look for.

    An entity is not found where a yes to its absence leads a yes to its presence by the margin; of a relation without
    all of its entities no label is told. Who is neither clearly there nor clearly missing counts as found.

    Args:
        labels: the label set whose questions it asks; that of real scenes when None.
        device: torch device of the model.
        model: folder or Hub id of any model that transformers loads as an ``AutoModelForImageTextToText``.
        frames: how many frames of a video it is shown.
        layout: ``frames``, as several pictures; or ``grid``, all in one, for models that know a single picture.
        margin: least lead of a label's probability of yes over that of every rival; below it, none can be told. The
            same for an entity's absence over its presence.
        batch_size: questions at a time.
        dtype: of the weights; bfloat16 by default where there is an accelerator.

    Raises:
        SettingsError: no model is named, or a number is out of its range.
        ModelError: model or processor cannot be loaded, or its tokenizer has no words for yes and no.
    """

    def __init__(
        self,
        labels: LabelSet | None = None,
        device: str = "cpu",
        model: str | None = None,
        frames: int = 8,
        layout: Literal["frames", "grid"] = "frames",
        margin: float = 0.2,
        batch_size: int = 8,
        dtype: torch.dtype | None = None,
    ) -> None:
        if model is None:
            raise SettingsError("judge vlm: no model; name one after a colon, as vlm:FOLDER or vlm:HUB-ID")
        if layout not in SAID or not 0 <= margin <= 1:
            raise SettingsError(f"judge vlm: layout {layout!r}, margin {margin}: give one of {', '.join(SAID)}, 0 to 1")
        require(1, frames=frames, batch_size=batch_size)
        self.labels, self.device = labels or LabelSet.load("world"), device
        self.frames, self.layout, self.margin, self.batch_size = frames, layout, margin, batch_size
        self.path = str(hub.path(model))
        self.processor, self.model = _load(self.path, dtype or (torch.float32 if device == "cpu" else torch.bfloat16))
        self.model.to(device)
        self.processor.tokenizer.padding_side = "left"  # the answer is what comes next in every row
        self.yes, self.no = (self._tokens(words) for words in (YES, NO))
        if not self.yes or not self.no or self.yes & self.no:
            raise ModelError(f"judge vlm {self.path}: its tokenizer has no words for yes and no; use another model")

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos.

        Raises:
            PromptError: a label that is not in the set.
            DataError: frames that cannot be read.
        """
        checked = [checked_frames(video) for video in videos]
        questions = [[self._questions(relation) for relation in composition.relations] for composition in asked]
        sought = [
            [_phrases(relation) if group else () for relation, group in zip(composition.relations, groups, strict=True)]
            for composition, groups in zip(asked, questions, strict=True)
        ]
        chance = self._answers(checked, [_all_of(*both) for both in zip(questions, sought, strict=True)])
        readings = []
        for row, (groups, names) in enumerate(zip(questions, sought, strict=True)):
            missing = {name for name in dict.fromkeys(itertools.chain(*names)) if self._is_missing(row, name, chance)}
            found = tuple(missing.isdisjoint(of_relation) for of_relation in names)
            leads = [
                self._choice({name: chance[row, text] for name, text in group.items()}) if there else (None, 0.0)
                for group, there in zip(groups, found, strict=True)
            ]
            readings.append(
                Reading(
                    labels=tuple(label for label, _ in leads),
                    problems=tuple(f"{name}: not there" for name in sorted(missing)),
                    found=found,
                    confidence=tuple(lead if label else 0.0 for label, lead in leads),
                )
            )
        return readings

    def _answers(self, videos: Sequence[Frames], questions: Sequence[Sequence[str]]) -> dict[tuple[int, str], float]:
        """How likely a yes is to each question about each video, by the video's place and the question."""
        todo = [(row, question) for row, of_video in enumerate(questions) for question in of_video]
        chance: dict[tuple[int, str], float] = {}
        for start in range(0, len(todo), self.batch_size):
            some = todo[start : start + self.batch_size]
            answers = self.chances([videos[row] for row, _ in some], [question for _, question in some])
            chance.update(zip(some, answers, strict=True))
        return chance

    def _is_missing(self, row: int, name: str, chance: dict[tuple[int, str], float]) -> bool:
        """Whether a video has no such entity."""
        there, missing = (chance[row, text.format(entity=name)] for text in (THERE, MISSING))
        return missing - there >= self.margin and missing > there

    @torch.no_grad()
    def chances(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[float]:
        """How likely a yes is to a question about a video: its share of the next token's probabilities of yes and no.

        Args:
            videos: (F, H, W, 3) uint8 RGB each.
            questions: one of each.
        """
        shown = [
            [grid(video, self.frames)] if self.layout == "grid" else pictures(video, self.frames) for video in videos
        ]
        texts = [
            self._prompt(len(images), SAID[self.layout].format(frames=self.frames, question=question))
            for images, question in zip(shown, questions, strict=True)
        ]
        inputs = self.processor(text=texts, images=shown, padding=True, return_tensors="pt").to(self.device)
        inputs = inputs.to(self.model.dtype)  # of pixels alone: whole numbers stay what they are
        few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.model.forward).parameters else {}
        next_BN: Tensor = self.model(**inputs, **few).logits[:, -1].float().softmax(-1)
        yes_B, no_B = (next_BN[:, sorted(tokens)].sum(-1) for tokens in (self.yes, self.no))
        chances: list[float] = (yes_B / (yes_B + no_B).clamp_min(torch.finfo(torch.float32).tiny)).tolist()
        return chances

    def _questions(self, relation: Relation) -> dict[str, str]:
        """The questions of a relation's group, by label; none where its own label has none."""
        label = self.labels[relation.label]
        if label.question is None:
            return {}
        names = dict(zip(("subject", "object"), _phrases(relation), strict=False))
        group = self.labels.groups[label.group]
        return {other.name: other.question.format(**names) for other in group if other.question is not None}

    def _choice(self, chance: dict[str, float]) -> tuple[str | None, float]:
        """The label that leads all others by the margin, and its lead."""
        if len(chance) < 2:
            return None, 0.0  # a yes that has no rival says nothing
        (best, most), (_, second) = sorted(chance.items(), key=lambda item: -item[1])[:2]
        lead = most - second
        return (best, lead) if lead >= self.margin and lead > 0 else (None, 0.0)

    def _prompt(self, images: int, question: str) -> str:
        """The question in the form of the model's conversations, or in LLaVA's, where its folder has none."""
        if getattr(self.processor, "chat_template", None) is None:
            token = getattr(self.processor, "image_token", "<image>")
            return f"USER: {token * images} {question} ASSISTANT:"
        content: list[dict[str, str]] = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        said: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return said

    def _tokens(self, words: Sequence[str]) -> set[int]:
        """The single tokens that are a word, with or without a space before it."""
        tokenizer = self.processor.tokenizer
        found = set()
        for form in (form for word in words for form in (word, f" {word}")):
            ids = [i for i in tokenizer(form, add_special_tokens=False).input_ids if i != tokenizer.unk_token_id]
            ids = [i for i in ids if tokenizer.decode([i]).strip()]
            if len(ids) == 1 and tokenizer.decode(ids).strip() == form.strip():
                found.add(ids[0])
        return found


def _phrases(relation: Relation) -> tuple[str, ...]:
    return tuple(entity.phrase for entity in relation.entities)


def _all_of(groups: Sequence[dict[str, str]], names: Sequence[Sequence[str]]) -> list[str]:
    """All different questions about a video: the labels', and of each entity whether it is there and whether not."""
    presence = (text.format(entity=name) for of_relation in names for name in of_relation for text in (THERE, MISSING))
    return list(dict.fromkeys([*presence, *(text for group in groups for text in group.values())]))


def _load(path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Processor and model; from local or cached files of safe forms alone, without code that comes with them."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        with loading.readable(path):
            processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
            if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
                raise ValueError("it has no processor of pictures and text")
            model, found = AutoModelForImageTextToText.from_pretrained(
                path, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
            )
    except ModelError as error:
        raise ModelError(f"judge vlm {path}: {str(error.__cause__ or error).strip().splitlines()[0]}") from error
    if found["missing_keys"]:  # transformers would leave them random
        raise ModelError(f"judge vlm {path}: its weights lack {sorted(found['missing_keys'])[0]}; give the whole model")
    return processor, model.eval().requires_grad_(False)
