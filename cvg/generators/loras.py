"""LoRAs that are loaded into a pipeline, by PEFT through the pipeline's own loader."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cvg.common import hub
from cvg.common.errors import ModelError, SettingsError
from cvg.generators.settings import Loading, listed

SAVED = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file of a LoRA that it saves."""


def check_loras(loading: Loading) -> None:
    """Raise SettingsError for LoRAs that are none, or strengths that do not go with them, before anything is loaded."""
    first, second, scales = (listed(each) for each in (loading.lora, loading.lora_low_noise, loading.lora_scale))
    loras = [*first, *second]
    if scales and not loras:
        raise SettingsError("lora_scale: there is no LoRA to scale; give lora, or leave it out")
    if len(scales) not in (0, 1, len(loras)):
        raise SettingsError(f"lora_scale: {len(scales)} strengths of {len(loras)} LoRAs; give one, or one for each")
    if wrong := [scale for scale in scales if not math.isfinite(scale)]:
        raise SettingsError(f"lora_scale {wrong[0]}: give a number")
    if twice := [lora for same in (first, second) for index, lora in enumerate(same) if lora in same[:index]]:
        raise SettingsError(f"lora {twice[0]}: is given twice; give each once")
    if loras and importlib.util.find_spec("peft") is None:
        raise SettingsError("lora: needs the package peft; install it (pip install peft)")
    for lora in loras:
        path = _lora_file(lora)
        if path is None:
            continue
        try:
            with safe_open(path, "pt") as opened:
                names = list(opened.keys())
        except Exception as error:  # bytes that are no safetensors
            reason = str(error).splitlines()[0]
            raise SettingsError(f"lora {lora}: is no safetensors file, or is damaged ({reason})") from error
        if not any("lora" in name.lower() or ".diff" in name for name in names):
            raise SettingsError(f"lora {lora}: holds no LoRA but other weights; give a LoRA's file")


def _lora_file(lora: str) -> Path | None:
    """The file of a LoRA that ships, of one in a folder as diffusers saves it, or the file itself; None of a Hub id.

    Raises:
        SettingsError: it is none of these.
    """
    path = Path(hub.path(lora) if hub.is_shipped_name(lora) else lora).expanduser()
    if path.is_dir():
        path = path / SAVED
    if path.is_file() and path.suffix == ".safetensors":
        return path
    if Path(lora).expanduser().exists() or not hub.HUB_ID.fullmatch(lora):
        raise SettingsError(
            f"lora {lora}: no .safetensors file of this machine, no folder with a {SAVED}, no LoRA "
            "that ships, and no Hub id (owner/name)"
        )
    return None


def add_loras(pipeline: Any, loading: Loading, name: str) -> None:
    """Load LoRAs into a pipeline and set their strengths. Raises ModelError for one that does not fit its networks."""
    second = listed(loading.lora_low_noise)
    loras = [*listed(loading.lora), *second]
    if not loras:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"generator {name}: {type(pipeline).__name__} of diffusers takes no LoRA; leave it out")
    if second and getattr(pipeline, "transformer_2", None) is None:
        raise ModelError(
            f"lora_low_noise {second[0]}: {name} has no second network for little noise; give it as lora, or leave it "
            "out"
        )
    adapters = [f"lora_{number}" for number in range(len(loras))]
    for number, (lora, adapter) in enumerate(zip(loras, adapters, strict=True)):
        place = {"load_into_transformer_2": True} if number >= len(loras) - len(second) else {}
        try:
            pipeline.load_lora_weights(
                str(_lora_file(lora) or lora), adapter_name=adapter, use_safetensors=True, **place
            )
        except Exception as error:  # nearly anything, of files for other models
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"lora {lora}: cannot be loaded into {name} ({reason}); give one for this model"
            ) from error
        if not any(adapter in found for found in pipeline.get_list_adapters().values()):
            raise ModelError(f"lora {lora}: none of its weights are for a layer of {name}; give one for this model")
    scales = listed(loading.lora_scale) or [1.0]
    pipeline.set_adapters(adapters, scales if len(scales) == len(loras) else scales * len(loras))
