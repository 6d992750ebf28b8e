"""Stage 2 of a generator: tokenizer and text encoder, a small T5 that mixes words well.

Large text-to-video models get their text encoder ready trained: the state at a noun knows its modifiers and the
relation it stands in. The small one learns the same from text alone, by reading each entity's colour, shape and
relation off the state at the entity's last token. It is frozen from then on.

    python -m data_prep.pretrain.text --out runs/pretrain
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cvg.common import hub
from cvg.common.cli import run
from cvg.composition import LabelSet
from cvg.shapes.renderer import COLORS, SHAPES
from cvg.shapes.world import ALL_KINDS, LABELS, TEMPLATES, Spec, sample_spec
from data_prep.made_of import require_same
from data_prep.pretrain.family import MAX_TOKENS, TEXT_DIM, FamilyName, find
from data_prep.pretrain.loop import train
from data_prep.pretrain.parts import trained_part


def build_tokenizer(
    end_last: bool = False, labels: LabelSet = LABELS, words: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """A unigram tokenizer in T5's manner, with every word of the world whole and letters for the rest.

    Args:
        end_last: the end of a text has the highest id, as in CLIP's tokenizer, instead of T5's 1.
        labels: whose wordings' words are whole.
        words: more of them, in small letters.
    """
    words = {*words} | {word for label in labels.labels for wording in label.wordings for word in wording.split()}
    words |= {*COLORS, *SHAPES, "a", "an", "the", "and", "is", "of", "to", "video"}
    words |= {
        word for kind in ALL_KINDS for template, _ in TEMPLATES[kind] for word in template.split() if "{" not in word
    }
    end = [("</s>", 0.0)]
    pieces = [("<pad>", 0.0), *([] if end_last else end), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [(f"▁{word}", -1.0) for word in sorted(words)]
    pieces += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,-'"]
    pieces += end if end_last else []
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ids["<unk>"]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    )


def targets(spec: Spec) -> list[list[int]]:
    """Per entity: colour, shape, and its class (label and role, or none) in each label group."""
    rows = []
    for index in range(len(spec.entities)):
        color, shape = spec.shown[index].split()
        row = [list(COLORS).index(color), SHAPES.index(shape)]
        for group, labels in LABELS.groups.items():
            value = 0
            for relation in spec.relations:
                if LABELS[relation.label].group == group and index in relation.entities:
                    place = [label.name for label in labels].index(relation.label)
                    value = 1 + 2 * place + relation.entities.index(index)
            row.append(value)
        rows.append(row)
    return rows


class WithReadouts(nn.Module):
    """The encoder with a linear read-out per attribute, for this stage only.

    Args:
        encoder: the text encoder.
        masked: whether it is told which tokens are padding.
    """

    def __init__(self, encoder: Any, masked: bool) -> None:
        super().__init__()
        self.encoder, self.masked = encoder, masked
        sizes = [len(COLORS), len(SHAPES), *(1 + 2 * len(labels) for labels in LABELS.groups.values())]
        self.readouts = nn.ModuleList(nn.Linear(TEXT_DIM, size) for size in sizes)

    def forward(self, ids_BN: Tensor, mask_BN: Tensor, where_E2: Tensor) -> list[Tensor]:
        """Logits per attribute at the tokens ``where`` (rows of batch index, token index)."""
        states = self.encoder(ids_BN, attention_mask=mask_BN if self.masked else None).last_hidden_state
        return [readout(states[where_E2[:, 0], where_E2[:, 1]]) for readout in self.readouts]


def go_on(encoder: Any, tokenizer: PreTrainedTokenizerFast, start: str | Path) -> None:
    """Give an untrained encoder the weights of a pipeline's; what its tokenizer has more keeps untrained embeddings.

    Args:
        encoder: of the family's class; changed in place.
        tokenizer: of its texts.
        start: the pipeline: a folder, or a Hub id.

    Raises:
        SettingsError: the pipeline has no text encoder of this class.
    """
    other = trained_part(start, "text_encoder", type(encoder))
    pieces = AutoTokenizer.from_pretrained(start, subfolder="tokenizer", trust_remote_code=False).get_vocab()
    table = encoder.get_input_embeddings().weight.detach().clone()
    for piece, row in tokenizer.get_vocab().items():
        if piece in pieces:
            table[row] = other.get_input_embeddings().weight[pieces[piece]]
    other.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    encoder.load_state_dict(other.state_dict())
    with torch.no_grad():
        encoder.get_input_embeddings().weight.copy_(table)


def batch(seed: int, count: int, tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids (B, N), mask (B, N), entity positions (E, 2) and attribute classes (E, attributes)."""
    rng = np.random.default_rng([seed, 2])
    specs = [sample_spec(rng, str(rng.choice(ALL_KINDS)), held_out=bool(rng.random() < 0.3)) for _ in range(count)]
    encoded = tokenizer([spec.prompt for spec in specs], padding="max_length", max_length=MAX_TOKENS)
    where, classes = [], []
    for row, spec in enumerate(specs):
        for entity, values in zip(spec.entities, targets(spec), strict=True):
            end = spec.prompt.index(entity) + len(entity)
            where.append([row, encoded.char_to_token(row, end - 1)])
            classes.append(values)
    as_tensor = torch.tensor
    return (
        as_tensor(encoded["input_ids"]),
        as_tensor(encoded["attention_mask"]),
        as_tensor(where),
        as_tensor(classes),
    )


def main(
    out: Path = Path("runs/pretrain"),
    steps: int = 1500,
    batch_size: int = 64,
    family: FamilyName = "wan",
    device: str = "cpu",
    minutes: float | None = None,
    workers: int = 0,
    start: str | None = None,
    lr: float = 2e-3,
) -> None:
    """Make the tokenizer and train the text encoder; writes OUT/tokenizer and OUT/text_encoder (CPU, minutes).

    Args:
        out: working folder.
        steps: optimiser steps.
        batch_size: captions per step.
        family: of generators.
        device: torch device.
        minutes: end by then, with fewer steps if need be; what an earlier run took is not counted.
        workers: processes that draw captions.
        start: pipeline folder, or shipped name, whose text encoder training starts from, so that a transformer which
            reads that one's states can go on with this one's; from nothing when left out.
        lr: peak learning rate; lower it to go on from trained weights.

    Raises:
        UserError: START has another family's text encoder, or OUT has a training that started otherwise.
    """
    torch.manual_seed(0)
    kind = find(family)
    tokenizer = build_tokenizer()
    encoder = kind.text_encoder(len(tokenizer))
    if start is not None:
        go_on(encoder, tokenizer, hub.path(start))
    require_same(out / "text_encoder.training", {"family": family, "start": start})
    tokenizer.save_pretrained(out / "tokenizer")
    model = WithReadouts(encoder, kind.masked).to(device)

    def losses(drawn: tuple[Tensor, ...]) -> dict[str, Tensor]:
        ids, mask, where, classes = (each.to(device) for each in drawn)
        logits = model(ids, mask, where)
        losses = [nn.functional.cross_entropy(logit, classes[:, i]) for i, logit in enumerate(logits)]
        right = torch.stack([logit.argmax(-1) == classes[:, i] for i, logit in enumerate(logits)])
        return {"loss": torch.stack(losses).sum(), "accuracy": right.float().mean()}

    average = train(
        model,
        lambda index: batch(index, batch_size, tokenizer),
        losses,
        out / "text_encoder.training",
        steps,
        lr=lr,
        muon_lr=lr,
        hidden="block.",
        ema=0.99,
        minutes=minutes,
        workers=workers,
    )
    assert isinstance(average, WithReadouts)
    average.encoder.save_pretrained(out / "text_encoder")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.text")
