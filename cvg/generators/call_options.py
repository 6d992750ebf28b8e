"""Arguments of a pipeline's own call that its user adds: a negative prompt, a second guidance scale."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from cvg.common.errors import SettingsError
from cvg.common.sizes import Size

_GOVERNED: Final = {
    **dict.fromkeys(("prompt", "latents", "generator", "num_inference_steps"), "is what is sampled, and has an option"),
    **dict.fromkeys(("height", "width", "num_frames", "guidance_scale"), "has an option of its own"),
    **dict.fromkeys(("num_videos_per_prompt",), "is one: give more seeds"),
    **dict.fromkeys(("image", "last_image"), "has an option of its own"),
    **dict.fromkeys(("output_type", "return_dict"), "is what the files are made of"),
    **dict.fromkeys(("attention_kwargs", "cross_attention_kwargs"), "would change LoRAs in some passes: scale them"),
    **dict.fromkeys(("timesteps", "sigmas"), "would be another schedule than the classifier is matched with"),
}
"""Arguments that are set already -> why they cannot be given."""


def checked_call(generator: Any, size: Size, options: Mapping[str, Any]) -> dict[str, Any]:
    """Further arguments of the pipeline's call, which can be given to it beside what is set already.

    Args:
        generator: whose pipeline it is.
        size: of the videos.
        options: argument -> value.

    Raises:
        SettingsError: the pipeline has no such argument, or it is set already; or a text is no text.
    """
    kind = type(generator.pipeline).__name__
    known = inspect.signature(type(generator.pipeline).__call__).parameters
    ours = {*generator.options(size), *generator.prompt_options([""])}
    for name, value in options.items():
        if name not in known or name == "self":
            free = [each for each in known if each not in ours | _GOVERNED.keys() | {"self"} and not _is_inner(each)]
            raise SettingsError(f"pipeline {name}: {kind} takes no such argument, but {', '.join(free)}")
        if reason := _GOVERNED.get(name) or (
            "is set by the model's adapter" if name in ours or _is_inner(name) else ""
        ):
            raise SettingsError(f"pipeline {name}: cannot be given, as it {reason}")
        if name.endswith("prompt") and value is not None and not isinstance(value, str):
            raise SettingsError(f"pipeline {name} {value!r}: give one text for all videos")
    return dict(options)


def _is_inner(name: str) -> bool:
    """Whether an argument is one for other programs: tensors, functions."""
    return name.endswith(("_embeds", "_mask")) or name.startswith("callback")
