"""Silence for what libraries say that nobody who runs a command can do anything about.

Each line names one message. Warnings in general, downloads' bars and everything else stay.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from typing import Final

WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # lightning's use of torch
    r"LightningCLI's args parameter is intended",  # a command called from Python, by tests
    r"The '\w+' does not have many workers",  # records are cached in memory; more processes would each hold them
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"Experiment logs directory .* exists and is not empty",  # going on with a training
    r"the classifier was trained on (this generator, but not as|\d+ denoising steps)",  # commands tell of it themselves
    r"guidance_scale .*: the classifier's own is",  # likewise
    r"Already found a `peft_config`",  # a second LoRA
    r"The dirpath has changed from",  # of validation and test, which write beside the training
)
"""Beginnings of messages, as regular expressions."""
NOTES = (
    "💡 Tip:",  # products of lightning's makers
    "TPU available:",
    "Loading `train_dataloader` to estimate",
    "`Trainer.fit` stopped: `max_",  # it trained as long as it was told to
)
"""Beginnings of what lightning logs."""
LOGGERS: Final = {
    "lightning.pytorch.utilities.rank_zero": NOTES,
    # What an installed torchao says when diffusers is imported, whether or not anything is quantised.
    "torchao": ("Failed to load",),
    "torch.utils._pytree": ("<enum",),
    "transformers.utils.import_utils": ("`CLIPImageProcessor` requires torchvision",),  # as others look into its names
    "bitsandbytes.autograd._functions": ("MatMul8bitLt: inputs will be cast",),  # in every layer and pass
    "diffusers.quantizers.torchao.torchao_quantizer": (
        "Unable to import `torchao`",
        "You are trying to set torch_dtype",
    ),
}
"""Logger -> beginnings of what it logs."""


_silenced = False


def silence() -> None:
    """Silence these in this process, and in those that it starts. Call it once the command's modules are imported."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    hush_loggers()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # with it, the tokenizers warn in each forked process
    global _silenced
    _silenced = True
    hide_loading_bars()


def hush_loggers() -> None:
    """Silence what is logged, which libraries begin with as they are imported. Call it before that."""
    for name, beginnings in LOGGERS.items():
        logging.getLogger(name).addFilter(_IS_NEWS[beginnings])


def hide_loading_bars() -> None:
    """Hide the bars of reading a model's parts from disk, which takes moments; those of downloads stay.

    It does so where a command is silenced, and not where CVG is used as a library. Call it once diffusers is imported.
    """
    if not _silenced:
        return
    if diffusers := sys.modules.get("diffusers"):  # where it is not imported, no pipeline is loaded
        diffusers.utils.logging.disable_progress_bar()
    if "torch" in sys.modules:  # a VLM may be loaded later on
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
        from transformers.utils import logging as of_transformers

        downloads = not are_progress_bars_disabled()
        of_transformers.disable_progress_bar()
        if downloads:  # transformers switches them off too
            enable_progress_bars()


def _is_news(beginnings: tuple[str, ...], record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(beginnings)


# One function for each, so that a logger that is silenced twice has its filter once.
_IS_NEWS: Final = {beginnings: functools.partial(_is_news, beginnings) for beginnings in LOGGERS.values()}
