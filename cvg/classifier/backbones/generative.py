"""Frozen vision-language models that answer in words: their vision tower, or their answer before it is spoken."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cvg.classifier.backbones import loading
from cvg.classifier.backbones.vision import VisionBackbone, VisionOptions, checkpointed
from cvg.common.errors import ModelError, SettingsError
from cvg.common.typed import record


@record
class GenerativeOptions(VisionOptions):
    """What a configuration may choose besides.

    Attributes:
        read: ``vision``, the vision tower's patch tokens; or ``language``, the language model's state at the position
            where its answer would begin. ``layer`` then counts the language model's blocks.
        question: what the language model is asked.
    """

    read: Annotated[Literal["vision", "language"], Field(description="vision or language")] = "vision"
    question: Annotated[str, Field(pattern=r"\S", description="a text")] = (
        "Where are the bright spots, relative to each other, and where does each of them move?"
    )


class GenerativeBackbone(VisionBackbone):
    """A vision tower whose tokens a language model reads.

    The state at the answer's position is one vector, but one that has seen the visual tokens, in their places, with a
    question about these in mind. The visual tokens are put between the words here and not by the model's ``forward``:
    some drop frames that look empty.

    A model states besides: the language model's place (`language`), what only it needs (`mouth`), its token for visual
    input (`placeholder`), its form of a question (`prompt`), and the visual tokens that the words surround (`visual`).
    """

    Options: ClassVar[type[VisionOptions]] = GenerativeOptions
    options: GenerativeOptions
    language: str = "language_model"
    """Where in the model the language model is."""
    mouth: tuple[str, ...] = ("language_model",)
    """Parts of the model that the vision tower does without."""
    placeholder: str
    """The token that stands for a visual token in a prompt."""
    ids_1L: Tensor

    def prompt(self, question: str) -> str:
        """The question with placeholders for the frames, in the form of the model's conversations."""
        raise NotImplementedError

    def visual(self, video_BTCHW: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Visual tokens (B, N, D) for the language model, and what more it must be given."""
        raise NotImplementedError

    def see(self, video_BTCHW: Tensor) -> Tensor:
        """The vision tower's patch tokens (B, T / tubelet, P, D)."""
        raise NotImplementedError

    @property
    def asks(self) -> bool:
        """Whether the language model is read."""
        return self.options.read == "language"

    def check_pool(self) -> None:
        """Raise SettingsError when the patches cannot be pooled as chosen, or when there are none."""
        super().check_pool()
        if self.asks and self.pool != 1:
            raise SettingsError(f"backbone {self.path}: pool {self.pool}, but an answer has no patches; leave it at 1")

    def prepare(self, model: Any) -> None:
        """Let go the language model, or put the question to it."""
        if not self.asks:
            for part in self.mouth:
                delattr(model, part)
            return
        self.layers, self.final = f"{self.language}.layers", f"{self.language}.norm"
        tokens = loading.tokenizer(self.path)
        ids = tokens(self.prompt(self.options.question), add_special_tokens=False, return_tensors="pt").input_ids
        self.register_buffer("ids_1L", ids, persistent=False)
        self.token = tokens.convert_tokens_to_ids(self.placeholder)
        if self.token is None or not (ids == self.token).any():
            raise ModelError(
                f"backbone {self.path}: its tokenizer does not know {self.placeholder}; give the model's own"
            )

    def recompute(self, model: Any) -> None:
        """Checkpoint the blocks of the vision tower, and those of the language model where it is read."""
        checkpointed(model.get_submodule(type(self).layers))
        if self.asks:
            checkpointed(model.get_submodule(self.layers))

    def look(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T / tubelet, P, D), or the state at the answer's position (B, 1, 1, D)."""
        return self.answer(video_BTCHW)[:, None, None] if self.asks else self.see(video_BTCHW)

    def answer(self, video_BTCHW: Tensor) -> Tensor:
        """The language model's state (B, D) at the position where its answer would begin."""
        visual_BND, more = self.visual(video_BTCHW)
        ids_BL = self.ids_1L.expand(len(video_BTCHW), -1)
        language = self.model.get_submodule(self.language)
        words = language.get_input_embeddings()(ids_BL)
        mixed = words.masked_scatter((ids_BL == self.token)[..., None], visual_BND.to(words.dtype))
        state: Tensor = language(inputs_embeds=mixed, use_cache=False, **more).last_hidden_state
        return state[:, -1]


def as_frames(tokens_NPD: Tensor, frames: int) -> Tensor:
    """Tokens (B, frames * P, D) of videos from those of their frames, one after the other."""
    return tokens_NPD.unflatten(0, (-1, frames)).flatten(1, 2)
