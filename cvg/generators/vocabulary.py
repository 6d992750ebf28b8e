"""Words that a generator has never seen: those that its own tokenizer has no piece for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvg.common.errors import PromptError
from cvg.composition import Composition
from cvg.generators.family import Family


def unknown_words(generator: Family, phrase: str) -> list[str]:
    """The words of a phrase that the tokenizer has no piece for: its unknown token, or letters one by one.

    Args:
        generator: whose pipeline's tokenizer is asked.
        phrase: some words.
    """
    tokenizer = getattr(generator.pipeline, "tokenizer", None)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # that of a processor, in some pipelines
    return [] if tokenizer is None else [word for word in phrase.split() if _is_unknown(tokenizer, word)]


def _is_unknown(tokenizer: Any, word: str) -> bool:
    found = tokenizer(word, add_special_tokens=False)["input_ids"]
    if tokenizer.unk_token_id in found and tokenizer.unk_token_id != tokenizer.eos_token_id:
        return True
    # One letter a piece is no word in tokenizers of scripts that write words in letters.
    pieces = [tokenizer.decode([piece]).strip() for piece in found]
    return len(word) > 2 and word.isascii() and word.isalpha() and all(len(piece) < 2 for piece in pieces)


def vocabulary_warnings(generator: Family, compositions: Sequence[Composition]) -> list[str]:
    """What to tell of entities with words that a generator has never seen, one line an entity.

    Args:
        generator: that is to draw them.
        compositions: what it is asked for.

    Raises:
        PromptError: it knows no word of an entity, so that there is nothing to guide.
    """
    lines: dict[str, None] = {}
    for composition in compositions:
        for entity in composition.entities:
            words = unknown_words(generator, entity.phrase)
            if words and len(words) == len(entity.phrase.split()):
                raise PromptError(
                    f"prompt {composition.prompt!r}: the generator {generator.name} has never seen the entity "
                    f"{entity.phrase!r}: its tokenizer knows none of the words; use words that it was trained on"
                )
            if words:
                lines[
                    f"the generator {generator.name} has never seen {', '.join(map(repr, words))} of "
                    f"{entity.phrase!r}; what it draws for that is chance"
                ] = None
    return list(lines)
