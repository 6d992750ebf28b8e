"""What a call of a pipeline asks for: its prompts read, or told by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvg.common.errors import PromptError, SettingsError
from cvg.composition import Composition, LabelSet, Parser, parse
from cvg.generators import Generator

ByHand = Sequence[str] | Sequence[Sequence[str] | None] | None
"""What is said by hand of a prompt; of several, a list for each, or None for one that is to be read."""
REMEDY = "entities= and labels= say by hand what a prompt asks for, and guided_steps=0 samples it plainly"


@dataclass(frozen=True)
class Reader:
    """Reads what calls of a pipeline ask for.

    Args:
        generator: the pipeline's adapter.
        labels: what can be asked for.
        parser: reads prompts of which nothing is said by hand.
    """

    generator: Generator
    labels: LabelSet
    parser: Parser

    def __call__(
        self,
        call: Mapping[str, Any],
        entities: ByHand,
        labels: str | ByHand,
        compositions: Sequence[Composition] | None,
    ) -> list[Composition] | None:
        """What each prompt of a call asks for; None where the pipeline itself will refuse the call.

        Args:
            call: the call's arguments by name.
            entities: said by hand.
            labels: said by hand.
            compositions: in place of both.

        Raises:
            PromptError: it cannot be read.
            SettingsError: not as much is said by hand as there are prompts.
        """
        prompt, states = call.get("prompt"), self.generator.given_states(call)
        if prompt is None and states is None:
            if any(value is not None for name, value in call.items() if name.startswith("prompt_embeds")):
                raise PromptError("prompt embeddings: this pipeline's cannot be guided; give the prompts as texts")
            return None
        if isinstance(prompt, Mapping):
            raise PromptError("prompt: one that changes between frames cannot be guided; give one text")
        texts = [prompt] if isinstance(prompt, str) else prompt
        if texts is not None and not (_texts(texts) and texts):
            return None
        if compositions is not None:
            prompts = len(texts) if texts else len(states["encoder_hidden_states"]) if states else 0
            if len(compositions) != prompts:
                raise SettingsError(f"{len(compositions)} compositions for {prompts} prompts; give one for each")
            return list(compositions)
        if texts is None:
            raise PromptError(
                "prompt embeddings: nothing tells what they ask for; give compositions=[cvg.parse(text, labels)], with "
                "the text that they were made of"
            )
        each = zip(texts, _each(entities, "entities", len(texts)), _each(labels, "labels", len(texts)), strict=True)
        return [self._read(*one) for one in each]

    def _read(self, prompt: str, entities: Sequence[str] | None, labels: Sequence[str] | None) -> Composition:
        if entities is not None or labels is not None:
            by_hand = [None if said is None else list(said) for said in (entities, labels)]
            return parse(prompt, self.labels, *by_hand)
        try:
            return self.parser(prompt, self.labels)
        except PromptError as error:
            raise type(error)(f"{error}; {REMEDY}") from error


def _each(said: str | ByHand, name: str, prompts: int) -> list[Sequence[str] | None]:
    """What is said by hand of each prompt. Raises SettingsError unless it is one list of texts for each."""
    if said is None:
        return [None] * prompts
    given: list[Any] = [said] if isinstance(said, str) else list(said)
    if all(isinstance(each, str) for each in given):
        given = [given]
    if len(given) != prompts or not all(each is None or _texts(each) for each in given):
        raise SettingsError(f"{name} {said!r}: give a list of texts for each of {prompts} prompts, or None for it")
    return given


def _texts(said: Any) -> bool:
    return isinstance(said, list | tuple) and all(isinstance(each, str) for each in said)
