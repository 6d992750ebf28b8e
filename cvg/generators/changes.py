"""What a generator is loaded with in place of its own: fewer bits, by diffusers' quantisers, and another scheduler."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import torch

from cvg.common.errors import ModelError, SettingsError
from cvg.generators.flow import SHIFTS, check_timesteps, is_flow, shift_of_flow
from cvg.generators.loras import check_loras
from cvg.generators.settings import Loading, Quantize, listed

# diffusers is imported by the functions that use it: every command imports this file, and help is to come at once.

NETWORKS: Final = ("transformer", "transformer_2", "unet")
"""What pipelines call the networks that denoise."""
_PACKAGES: Final = {"bnb": "bitsandbytes", "torchao": "torchao", "gguf": "gguf"}


def check_changes(loading: Loading, device: torch.device) -> None:
    """Raise SettingsError for changes that cannot be made, before anything is loaded."""
    check_loras(loading)
    _check_quantisation(loading, device)
    if loading.scheduler is not None:
        _scheduler_class(loading.scheduler)
    if loading.flow_shift is not None and not (math.isfinite(loading.flow_shift) and loading.flow_shift > 0):
        raise SettingsError(f"flow_shift {loading.flow_shift}: give a number above 0")
    if loading.timesteps is not None:
        check_timesteps(loading.timesteps)
        if loading.scheduler is not None or loading.flow_shift is not None:
            raise SettingsError(
                "timesteps: are stepped through as they are, by Euler's method; leave scheduler and flow_shift out"
            )


# Fewer bits


def _check_quantisation(loading: Loading, device: torch.device) -> None:
    kind, files = loading.quantize, listed(loading.gguf)
    if (kind == "gguf") != bool(files):
        raise SettingsError("quantize gguf: takes the network's weights from a file; give both, quantize and gguf")
    for file in files:
        if Path(file).suffix.lower() != ".gguf" or not Path(file).is_file():
            raise SettingsError(f"gguf {file}: no .gguf file of this machine; give the path of one")
        with Path(file).open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise SettingsError(f"gguf {file}: is not a GGUF file, or is damaged; download it again")
    if kind is None:
        return
    if kind not in get_args(Quantize):
        raise SettingsError(f"quantize {kind}: expected one of {', '.join(get_args(Quantize))}")
    package = _PACKAGES[kind.partition("-")[0]]
    if importlib.util.find_spec(package) is None:
        raise SettingsError(f"quantize {kind}: needs the package {package}; install it (pip install {package})")
    if package == "bitsandbytes" and device.type != "cuda":
        raise SettingsError(
            f"quantize {kind}: diffusers quantises with bitsandbytes on an NVIDIA GPU only, but the device is "
            f"{loading.device}; take torchao-int8"
        )
    if loading.offload == "group" or (loading.offload == "model" and package == "bitsandbytes"):
        raise SettingsError(
            f"quantize {kind}: quantised weights cannot come and go with offload {loading.offload}; leave one of the "
            "two out"
        )


def quantised_parts(folder: str | Path, index: dict[str, Any], loading: Loading) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that quantise a pipeline's networks; none where nothing is asked for.

    Args:
        folder: folder or Hub id of the pipeline.
        index: its model_index.json.
        loading: what is asked for.

    Raises:
        SettingsError: there are not as many files as networks.
    """
    import diffusers

    if loading.quantize is None:
        return {}
    names = [name for name in NETWORKS if isinstance(index.get(name), list | tuple) and index[name][-1]]
    if loading.quantize == "gguf":
        files = listed(loading.gguf)
        if len(files) != len(names):
            raise SettingsError(
                f"gguf: {len(files)} files, but the pipeline has {len(names)} networks ({', '.join(names)}); give a "
                "file for each, in this order"
            )
        return {
            name: _from_gguf(getattr(diffusers, index[name][-1]), file, folder, name, loading)
            for name, file in zip(names, files, strict=True)
        }
    settings = diffusers.PipelineQuantizationConfig(quant_mapping=dict.fromkeys(names, _settings(loading)))
    return {"quantization_config": settings}


def _settings(loading: Loading) -> Any:
    """The settings of diffusers for a way of quantising."""
    import diffusers

    if loading.quantize == "bnb-8bit":
        return diffusers.BitsAndBytesConfig(load_in_8bit=True)
    if loading.quantize == "bnb-4bit":
        return diffusers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, loading.dtype)
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kinds = {"torchao-int8": Int8WeightOnlyConfig, "torchao-fp8": Float8WeightOnlyConfig}
    return diffusers.TorchAoConfig(kinds[str(loading.quantize)]())


def _from_gguf(network: Any, file: str, folder: str | Path, name: str, loading: Loading) -> Any:
    """A network with the weights of a GGUF file and the settings of a pipeline's folder. ModelError where it has none.

    Files of some other model make the libraries raise nearly anything.
    """
    import diffusers

    dtype = getattr(torch, loading.dtype)
    quantised = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    try:
        return network.from_single_file(
            file, config=str(folder), subfolder=name, quantization_config=quantised, dtype=dtype
        )
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"gguf {file}: cannot be loaded as the {name} of {folder} ({reason}); give a file of that model"
        ) from error


# Schedulers


def _scheduler_class(name: str) -> Any:
    """The scheduler of diffusers by its name. Raises SettingsError, with what there is, where it is none."""
    import diffusers

    found = getattr(diffusers, name, None) if name in known_schedulers() else None
    if not hasattr(found, "from_config"):
        raise SettingsError(f"scheduler {name}: expected a scheduler of diffusers: {', '.join(known_schedulers())}")
    return found


def known_schedulers() -> Sequence[str]:
    """The names of diffusers' schedulers for tensors of PyTorch."""
    import diffusers

    return sorted(name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax"))


def set_scheduler(pipeline: Any, loading: Loading, name: str) -> None:
    """Put the scheduler, and the shift or the timesteps, that are asked for in place of the pipeline's.

    A flow-matching scheduler takes over the shift of the one before it, whatever either calls it.

    Raises:
        SettingsError: the scheduler has no shift, does not take the settings of the one before it, or is none that
            timesteps can be stated for.
    """
    if loading.timesteps is not None:
        pipeline.scheduler = _stated(pipeline.scheduler, loading.timesteps, name)
    if loading.scheduler is None and loading.flow_shift is None:
        return
    before = dict(pipeline.scheduler.config)
    kind = type(pipeline.scheduler) if loading.scheduler is None else _scheduler_class(loading.scheduler)
    known = inspect.signature(kind).parameters
    shift_of = [key for key in SHIFTS if key in known]
    changed: dict[str, Any] = {}
    if is_flow(pipeline.scheduler):
        if "use_flow_sigmas" in known:
            changed = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        changed |= {key: shift for key in shift_of if (shift := shift_of_flow(pipeline.scheduler)) is not None}
    if loading.flow_shift is not None:
        if not shift_of or not is_flow(pipeline.scheduler):
            raise SettingsError(
                f"flow_shift: {kind.__name__}, the scheduler of {name}, has none; name a flow-matching scheduler, or "
                "leave it out"
            )
        if "use_dynamic_shifting" in known:
            changed["use_dynamic_shifting"] = False
        changed |= dict.fromkeys(shift_of, loading.flow_shift)
    try:
        pipeline.scheduler = kind.from_config({key: value for key, value in (before | changed).items() if key in known})
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SettingsError(f"scheduler {kind.__name__}: does not take the settings of {name} ({reason})") from error


def _stated(scheduler: Any, timesteps: list[float], name: str) -> Any:
    """What steps at these timesteps in a scheduler's place."""
    from cvg.generators.stated_steps import StatedSteps

    if not is_flow(scheduler) or scheduler.config.get("invert_sigmas"):
        raise SettingsError(
            f"timesteps: {type(scheduler).__name__}, the scheduler of {name}, is not one of flow matching from 1000 "
            "down, for which they can be stated; leave them out"
        )
    most = int(scheduler.config.num_train_timesteps)
    check_timesteps(timesteps, most)
    return StatedSteps(timesteps, num_train_timesteps=most)
