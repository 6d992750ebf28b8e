"""Finds the adapter of a pipeline folder or hub id from its own ``model_index.json``."""

from __future__ import annotations

import pkgutil
from typing import Any

from cvg.common.errors import ModelError
from cvg.generators.base import Generator

ADAPTERS: dict[str, str] = {
    "AllegroPipeline": "allegro.AllegroGenerator",
    "AnimateDiffPipeline": "unet.AnimateDiffGenerator",
    "CogVideoXImageToVideoPipeline": "cogvideox.CogVideoXImageGenerator",
    "CogVideoXPipeline": "cogvideox.CogVideoXGenerator",
    "CosmosTextToWorldPipeline": "cosmos.CosmosGenerator",
    "EasyAnimatePipeline": "easyanimate.EasyAnimateGenerator",
    "HunyuanVideo15Pipeline": "hunyuan15.HunyuanVideo15Generator",
    "HunyuanVideoImageToVideoPipeline": "hunyuan.HunyuanVideoImageGenerator",
    "HunyuanVideoPipeline": "hunyuan.HunyuanVideoGenerator",
    "Kandinsky5T2VPipeline": "kandinsky5.Kandinsky5Generator",
    "LTXImageToVideoPipeline": "ltx.LTXImageGenerator",
    "LTXPipeline": "ltx.LTXGenerator",
    "LattePipeline": "latte.LatteGenerator",
    "MochiPipeline": "mochi.MochiGenerator",
    "SanaVideoPipeline": "sana_video.SanaVideoGenerator",
    "SkyReelsV2Pipeline": "skyreels.SkyReelsGenerator",
    "TextToVideoSDPipeline": "unet.ModelScopeGenerator",
    "WanImageToVideoPipeline": "wan.WanImageGenerator",
    "WanPipeline": "wan.WanGenerator",
}
"""Pipeline class -> module of this package and class in it; a family is imported when it is asked for."""

TEXT_TO_VIDEO: dict[str, str] = {
    "AnimateDiffVideoToVideoPipeline": "AnimateDiffPipeline",
    "CogVideoXVideoToVideoPipeline": "CogVideoXPipeline",
    "LTXConditionPipeline": "LTXPipeline",
    "WanVideoToVideoPipeline": "WanPipeline",
}
"""Pipeline class that has no adapter -> one of the same parts that has."""


def adapter_of(pipeline_class: str, name: str = "pipeline") -> type[Generator]:
    """The adapter of a pipeline class. Raises ModelError for an unknown class, naming one that will do, or all."""
    if pipeline_class not in ADAPTERS:
        remedy = f"known classes: {', '.join(ADAPTERS)}"
        if same := TEXT_TO_VIDEO.get(pipeline_class):
            remedy = (
                f"its parts are those of {same}, which is known: {same}.from_pipe(pipeline), or save it as one once"
            )
        raise ModelError(f"generator {name}: its pipeline class is {pipeline_class}; {remedy}")
    found: type[Generator] = pkgutil.resolve_name(f"cvg.generators.families.{ADAPTERS[pipeline_class]}")
    return found


def wrap_pipeline(pipeline: Any, name: str = "pipeline") -> Generator:
    """The adapter around a loaded diffusers pipeline; errors as of :func:`adapter_of`."""
    return adapter_of(type(pipeline).__name__, name)(pipeline, name)
