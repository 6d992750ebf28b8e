"""Which text keys an entity's words became, from the character offsets of the family's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvg.common.errors import ModelError, PromptError
from cvg.composition import Composition


def entity_columns(
    composition: Composition,
    tokenizer: Any,
    length: int,
    clean: Callable[[str], str] = str,
    template: str = "{}",
    skipped: int = 0,
) -> Tensor:
    """Weight of each text key in each entity: 1 on the tokens that hold a character of its phrase.

    Args:
        composition: the prompt and its entities.
        tokenizer: a fast tokenizer.
        length: text keys of the generator.
        clean: what the pipeline does to a prompt before it tokenizes it.
        template: what it puts around the prompt, as a format string.
        skipped: tokens at the beginning, the template's among them, that the generator never sees.

    Returns:
        (T, E)

    Raises:
        PromptError: the clean-up changes the prompt, or an entity is not all among the text keys.
    """
    prompt = composition.prompt
    cleaned = clean(prompt)
    # Letter by letter: some have another length in lower case.
    if len(cleaned) != len(prompt) or any(a.casefold() != b.casefold() for a, b in zip(cleaned, prompt, strict=True)):
        raise PromptError(
            f"prompt {prompt!r}: the tokenizer's clean-up changes it to {cleaned!r}, which shifts the entities; write "
            "the prompt that way"
        )
    before, text = template.index("{}"), template.replace("{}", cleaned, 1)
    encoded = tokenizer(text, truncation=True, max_length=length + skipped)
    whole = tokenizer(text, truncation=False, verbose=False)
    columns_TE = torch.zeros(length, len(composition.entities))
    for index, entity in enumerate(composition.entities):
        chars = [before + char for char in range(entity.start, entity.end)]
        lost = [c for c in chars if encoded.char_to_token(c) is None and whole.char_to_token(c) is not None]
        keys = {encoded.char_to_token(char) for char in chars} - {None}
        if lost:
            where = "is cut by" if keys else "lies beyond"
            raise PromptError(
                f"prompt {prompt!r}: the entity {entity.phrase!r} {where} the {length} tokens that the generator "
                "reads; shorten the prompt"
            )
        if not keys:
            raise PromptError(
                f"prompt {prompt!r}: the generator's tokenizer has no token for the entity {entity.phrase!r}; use "
                "words that it knows"
            )
        if min(keys) < skipped:
            raise ModelError(
                f"prompt {prompt!r}: the entity {entity.phrase!r} lies in the first {skipped} tokens, which the "
                "generator cuts off with its prompt template; its tokenizer is not the one it was made with"
            )
        columns_TE[[key - skipped for key in sorted(keys)], index] = 1
    return columns_TE
