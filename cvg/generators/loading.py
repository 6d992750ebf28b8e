"""Loads a generator, with the memory and the speed that are asked for; docs/memory.md says what each option costs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch

from cvg.common import hub, quiet
from cvg.common.devices import find_device
from cvg.common.errors import ModelError, SettingsError, UserError
from cvg.common.files import MOST_CONFIG, read_json
from cvg.generators.base import Generator
from cvg.generators.changes import check_changes, quantised_parts, set_scheduler
from cvg.generators.image_to_video import ImageToVideo
from cvg.generators.loras import add_loras
from cvg.generators.offload import offload_components, offload_layers
from cvg.generators.registry import adapter_of, wrap_pipeline
from cvg.generators.settings import Dtype, Loading

# diffusers is imported by the functions that use it: every command imports this file, and help is to come at once.


def load_generator(name: str, loading: Loading = Loading()) -> Generator:  # noqa: B008  (frozen)
    """Load a pipeline with ``from_pretrained`` and wrap it.

    Args:
        name: a shipped model (``shapes-wan``), a folder, or a hub id.
        loading: where and how it is computed.

    Raises:
        ModelError: it cannot be found or loaded, its class has no adapter, or an option does not go with it.
    """
    import diffusers

    quiet.hide_loading_bars()
    target = check_loading(loading)
    path = hub.path(name)
    with _loadable(name):
        _check_settings(Path(path))
        index = _index(path)
        adapter_of(index["_class_name"], name)  # before anything of it is loaded
        changed = quantised_parts(path, index, loading)
        dtype = getattr(torch, loading.dtype)
        kind = getattr(diffusers, index["_class_name"])  # DiffusionPipeline overlooks parts that are given to it
        pipeline = kind.from_pretrained(path, dtype=dtype, trust_remote_code=False, **changed)
    pipeline.set_progress_bar_config(disable=True)
    set_scheduler(pipeline, loading, str(name))
    add_loras(pipeline, loading, str(name))
    generator = wrap_pipeline(pipeline, str(name))
    generator.repair_after_loading()
    generator.checkpointing = loading.checkpointing
    if loading.tiling:
        tile(generator)
    if loading.offload == "none":
        pipeline.to(target)
    elif loading.offload == "model":
        offload_components(generator, target)
    else:
        offload_layers(generator, target)
    if loading.compile:
        compile_blocks(generator)
    return generator


def check_image(name: str, given: bool, last: bool = False) -> None:
    """Check whether a generator makes videos of an image, before anything of it is loaded.

    Args:
        name: a shipped model, a folder, or a hub id.
        given: whether it is to be given an image.
        last: whether it is to be given one of the last frame too.

    Raises:
        SettingsError: it makes them of text alone, and is given one; or of an image, and is given none, or of a first
            one alone, and is given a last one.
        ModelError: it cannot be found, or its class has no adapter.
    """
    import diffusers

    with _loadable(name):
        kind = _index(hub.path(name))["_class_name"]
        takes = issubclass(adapter_of(kind, name), ImageToVideo)
    if given and not takes:
        raise SettingsError(
            f"image: {name} ({kind}) makes videos of text alone; leave the image out, or name an image-to-video model"
        )
    if takes and not given:
        raise SettingsError(f"image: {name} ({kind}) makes videos of images; give one, or name a text-to-video model")
    if last and "last_image" not in inspect.signature(getattr(diffusers, kind).__call__).parameters:
        raise SettingsError(f"last_image: {name} ({kind}) is told the first frame alone; leave the last one out")


@contextmanager
def _loadable(name: str) -> Iterator[None]:
    """Turns what reading a pipeline may raise into one ModelError that names it."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"generator {name}: cannot be loaded ({reason}); give a shipped name (shapes-wan), a diffusers pipeline "
            "folder, or a hub id"
        ) from error


def _check_settings(folder: Path) -> None:
    """Raise DataError for settings in a local pipeline's folder that are no JSON, or too large to be any."""
    for path in [*folder.glob("*config.json"), *folder.glob("*/*config.json"), *folder.glob("model_index.json")]:
        read_json(path, MOST_CONFIG)


def _index(path: str | Path) -> dict[str, Any]:
    """A pipeline's model_index.json, which names its class. Code that comes with it never runs."""
    import diffusers

    index = diffusers.DiffusionPipeline.load_config(path)
    for part in index.values():
        # They would ask whether to run code that comes with the model; "AutoencoderKL" of diffusers is none of them.
        if isinstance(part, list | tuple) and part[0] == "transformers" and str(part[-1]).startswith("Auto"):
            raise ValueError(f"its part {part[-1]} may be of any class; only named ones are loaded")
    found = index.get("_class_name")
    if not isinstance(found, str):
        raise ValueError(f"its model_index.json names no class of diffusers but {found!r}")
    return dict(index)


def check_loading(loading: Loading) -> torch.device:
    """The device. Raises SettingsError for options that this machine does not have, or that do not go together."""
    target = find_device(loading.device)
    if loading.dtype not in get_args(Dtype):
        raise SettingsError(f"dtype {loading.dtype}: expected one of {', '.join(get_args(Dtype))}")
    if loading.offload != "none" and target.type == "cpu":
        raise SettingsError(
            f"offload {loading.offload}: keeps weights off an accelerator, but the device is {loading.device}; name "
            "one (such as cuda), or leave offload out"
        )
    if loading.offload == "group" and loading.compile:
        raise SettingsError(
            "offload group: weights that come and go cannot be compiled; use offload model or no compile"
        )
    check_changes(loading, target)
    return target


def tile(generator: Generator) -> None:
    """Let the VAE take one video at a time, in tiles. Raises SettingsError if it cannot do the latter."""
    vae = generator.pipeline.vae
    if not hasattr(vae, "use_tiling"):
        raise SettingsError(
            f"tiling: {type(vae).__name__}, the VAE of {generator.name}, has none; leave the option out"
        )
    vae.enable_tiling()
    if hasattr(vae, "use_slicing"):
        vae.enable_slicing()


def compile_blocks(generator: Generator) -> None:
    """Compile the network's blocks, which share one compiled form; what lies around them is little."""
    kinds = {type(block) for block in generator.blocks}
    for network in generator.networks:
        for module in network.modules():
            if type(module) in kinds:
                module.compile()
    generator.compiled = True
