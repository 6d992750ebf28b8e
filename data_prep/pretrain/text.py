"""Stage 2 of shapes-wan: tokenizer and text encoder, a ``UMT5EncoderModel`` that mixes words well.

Large text-to-video models get their text encoder ready trained: the state at a noun knows its modifiers and the
relation it stands in. The small one learns the same from text alone, by reading each entity's colour, shape and
relation off the state at the entity's last token. It is frozen from then on.

    python -m data_prep.pretrain.text --out runs/pretrain
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from cvg.cli import run
from cvg.shapes.renderer import COLORS, SHAPES
from cvg.shapes.world import KINDS, LABELS, TEMPLATES, Spec, sample_spec
from data_prep.pretrain.loop import train

MAX_TOKENS = 24
TEXT_DIM = 128


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A unigram tokenizer in T5's manner, with every word of the world whole and letters for the rest."""
    words = {word for label in LABELS.labels for wording in label.wordings for word in wording.split()}
    words |= {*COLORS, *SHAPES, "a", "an", "the", "and", "is", "of", "to", "video"}
    words |= {word for kind in KINDS for template, _ in TEMPLATES[kind] for word in template.split() if "{" not in word}
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [(f"▁{word}", -1.0) for word in sorted(words)]
    pieces += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,-'"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    )


def build_encoder(vocabulary: int) -> UMT5EncoderModel:
    """The true umT5 encoder class: 3 layers of width 128."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=TEXT_DIM,
            d_kv=32,
            d_ff=256,
            num_layers=3,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
        )
    )


def targets(spec: Spec) -> list[list[int]]:
    """Per entity: colour, shape, and its class (label and role, or none) in each label group."""
    rows = []
    for index, entity in enumerate(spec.entities):
        color, shape = entity.split()
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


class Reader(nn.Module):
    """The encoder with a linear read-out per attribute, for this stage only."""

    def __init__(self, encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = [len(COLORS), len(SHAPES), *(1 + 2 * len(labels) for labels in LABELS.groups.values())]
        self.readouts = nn.ModuleList(nn.Linear(TEXT_DIM, size) for size in sizes)

    def forward(self, ids_BN: Tensor, mask_BN: Tensor, where_E2: Tensor) -> list[Tensor]:
        """Logits per attribute at the tokens ``where`` (rows of batch index, token index)."""
        states = self.encoder(ids_BN, attention_mask=mask_BN).last_hidden_state
        return [readout(states[where_E2[:, 0], where_E2[:, 1]]) for readout in self.readouts]


def batch(seed: int, count: int, tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids (B, N), mask (B, N), entity positions (E, 2) and attribute classes (E, attributes)."""
    rng = np.random.default_rng([seed, 2])
    specs = [sample_spec(rng, held_out=bool(rng.random() < 0.3)) for _ in range(count)]
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


def main(out: Path = Path("runs/pretrain"), steps: int = 1500, batch_size: int = 64) -> None:
    """Make the tokenizer and train the text encoder; writes OUT/tokenizer and OUT/text_encoder (CPU, minutes).

    Args:
        out: working folder.
        steps: optimiser steps.
        batch_size: captions per step.
    """
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(out / "tokenizer")
    reader = Reader(build_encoder(len(tokenizer)))

    def step(index: int) -> dict[str, Tensor]:
        ids, mask, where, classes = batch(index, batch_size, tokenizer)
        logits = reader(ids, mask, where)
        losses = [nn.functional.cross_entropy(logit, classes[:, i]) for i, logit in enumerate(logits)]
        right = torch.stack([logit.argmax(-1) == classes[:, i] for i, logit in enumerate(logits)])
        return {"loss": torch.stack(losses).sum(), "accuracy": right.float().mean()}

    average = train(
        reader, step, out / "text_encoder.training", steps, lr=2e-3, muon_lr=2e-3, hidden="block.", ema=0.99
    )
    assert isinstance(average, Reader)
    average.encoder.save_pretrained(out / "text_encoder")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.text")
