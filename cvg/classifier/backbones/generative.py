"""Frozen vision-language models that answer in words: their vision tower, or their answer before it is spoken."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cvg.classifier.backbones import loading
from cvg.classifier.backbones.vision import VisionBackbone, VisionOptions, checkpoint_blocks
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

    A model states besides: where the language model is (`language_path`), what is only for that (`language_parts`), its
    token for visual input (`placeholder`), how it is asked a question (`conversation`), the tokens of its vision tower
    (`vision_tokens`), and those that its language model is given (`visual_tokens`).
    """

    options_class: ClassVar[type[VisionOptions]] = GenerativeOptions
    options: GenerativeOptions
    language_path: str = "language_model"
    """Name of the model's submodule that is the language model."""
    language_parts: tuple[str, ...] = ("language_model",)
    """Parts of the model that the vision tower does without."""
    placeholder: str
    """The token that stands for a visual token in a prompt."""
    ids_1L: Tensor

    def conversation(self, question: str) -> str:
        """The question with placeholders for the frames, in the form of the model's conversations."""
        raise NotImplementedError

    def visual_tokens(self, video_BTCHW: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Visual tokens (B, V, D) for the language model, and what more it must be given."""
        raise NotImplementedError

    def vision_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """The vision tower's patch tokens (B, T / tubelet, P, D)."""
        raise NotImplementedError

    @property
    def reads_language(self) -> bool:
        """Whether the language model is read."""
        return self.options.read == "language"

    def check_pool(self) -> None:
        """Raise SettingsError when the patches cannot be pooled as chosen, or when there are none."""
        super().check_pool()
        if self.reads_language and self.pool != 1:
            raise SettingsError(f"backbone {self.path}: pool {self.pool}, but an answer has no patches; leave it at 1")

    def prepare(self, model: Any) -> None:
        """Let go the language model, or put the question to it."""
        if not self.reads_language:
            for part in self.language_parts:
                delattr(model, part)
            return
        self.blocks_path, self.final_norm_path = f"{self.language_path}.layers", f"{self.language_path}.norm"
        tokens = loading.tokenizer(self.path)
        ids = tokens(self.conversation(self.options.question), add_special_tokens=False, return_tensors="pt").input_ids
        self.register_buffer("ids_1L", ids, persistent=False)
        self.token = tokens.convert_tokens_to_ids(self.placeholder)
        if self.token is None or not (ids == self.token).any():
            raise ModelError(
                f"backbone {self.path}: its tokenizer does not know {self.placeholder}; give the model's own"
            )

    def recompute(self, model: Any) -> None:
        """Checkpoint the blocks of the vision tower, and those of the language model where it is read."""
        checkpoint_blocks(model.get_submodule(type(self).blocks_path))
        if self.reads_language:
            checkpoint_blocks(model.get_submodule(self.blocks_path))

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T / tubelet, P, D), or the state at the answer's position (B, 1, 1, D)."""
        if self.reads_language:
            return self.answer_state(video_BTCHW)[:, None, None]
        return self.vision_tokens(video_BTCHW)

    def answer_state(self, video_BTCHW: Tensor) -> Tensor:
        """The language model's state (B, D) at the position where its answer would begin."""
        visual_BVD, more = self.visual_tokens(video_BTCHW)
        ids_BL = self.ids_1L.expand(len(video_BTCHW), -1)
        language = self.model.get_submodule(self.language_path)
        words = language.get_input_embeddings()(ids_BL)
        mixed = words.masked_scatter((ids_BL == self.token)[..., None], visual_BVD.to(words.dtype))
        state: Tensor = language(inputs_embeds=mixed, use_cache=False, **more).last_hidden_state
        return state[:, -1]


def as_frames(tokens_MPD: Tensor, frames: int) -> Tensor:
    """Tokens (B, frames * P, D) of videos from those of their frames, one after the other."""
    return tokens_MPD.unflatten(0, (-1, frames)).flatten(1, 2)
