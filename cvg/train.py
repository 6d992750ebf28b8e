"""Train and evaluate a composition classifier: ``python -m cvg.train fit|validate|test --config FILE``.

Every training begins with lightning_configs/base.yaml. Each ``--config FILE`` lies over what came before.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import jsonargparse
import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from cvg.classifier.checkpoint import load_checkpoint, read_checkpoint
from cvg.common import quiet
from cvg.common.cli import PlainText, called_as, exit_with_message
from cvg.common.configs import located, shipped
from cvg.common.errors import DataError, EndedEarly, SettingsError, UserError
from cvg.common.files import require_writable
from cvg.training.datamodule import CompositionDataModule
from cvg.training.module import CompositionModule
from cvg.training.peers import first_to_tell, is_to_tell, lost, newest, watch
from cvg.training.progress import TrainingProgress
from cvg.training.resuming import was_restoring
from cvg.training.saving import WholeCheckpoints, WholeConfig

_STANDING = ("best", "last", "hpc")
"""What may stand for a checkpoint's path: Lightning finds the file."""
_PARENT = os.getppid()
"""Of a process that Lightning started: the first."""


class Parser(PlainText, LightningArgumentParser):
    """Lightning's, with help and errors as those of the other commands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"prog": called_as.get() or "python -m cvg.train", **options})


class CompositionCLI(LightningCLI):
    """LightningCLI with one seed for initial weights and data, progress of the whole training, and an export."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the seeds; say where to export."""
        parser.link_arguments("seed_everything", "data.seed")
        parser.add_argument(
            "--export", type=str | None, help="after fit: folder for the best classifier, as `cvg.export` writes it"
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """All of Lightning's, except predict; without the choice to unpickle whatever a checkpoint holds."""
        known = LightningCLI.subcommands().items()
        return {name: skip | {"weights_only"} for name, skip in known if name != "predict"}

    def _parse_ckpt_path(self) -> None:
        """Check the checkpoint.

        Lightning would let its options take the place of those that are given; here those that are given hold, and
        `CompositionModule` refuses a checkpoint that does not go with them.

        Raises:
            DataError: it cannot be read, or is not safe to be.
        """
        options = self.config[self.config.subcommand]
        if options.ckpt_path and options.ckpt_path not in _STANDING:
            read_checkpoint(options.ckpt_path)
            options.ckpt_path = str(Path(options.ckpt_path).resolve())  # Lightning takes http.ckpt for an address

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return super()._prepare_subcommand_kwargs(subcommand) | {"weights_only": True}

    def before_fit(self) -> None:
        """See that there is something to train, and to train on, and that what comes of it can be written.

        Raises:
            SettingsError: there is nothing to train, or the processes cannot share a batch.
            DataError: shards are missing; logs, checkpoints or the export could not be written.
        """
        for name in ("max_epochs", "max_steps"):
            if getattr(self.trainer, name) == 0:
                raise SettingsError(f"trainer.{name} 0: there is nothing to train; give at least 1")
        folder = self.config[self.subcommand].export
        require_writable(folder and Path(folder) / "config.json")
        self.before_test()

    def before_validate(self) -> None:
        """As before a test."""
        self.before_test()

    def before_test(self) -> None:
        """See that shards are there and logs can be written, before folders are made for these or processes begun.

        Raises:
            DataError: shards are missing; logs could not be written.
            SettingsError: the processes cannot share a batch.
        """
        data: Any = self.datamodule
        require_writable(*(Path(to.save_dir) / "metrics.csv" for to in self.trainer.loggers if to.save_dir))
        data.info  # noqa: B018  (read, and kept)
        if self.subcommand == "fit":
            data.mixture  # noqa: B018
        for training in (False, True)[: 1 + (self.subcommand == "fit")]:
            data.check_shared(self.trainer.world_size, training)
        watch(self.trainer, lambda: print(f"error: {self._ended_early()}", file=sys.stderr))
        if self.trainer.is_global_zero and self.trainer.progress_bar_callback is not None:
            splits = {"fit": "train", "validate": "val", "test": "test"}
            told = [data.reading(splits[str(self.subcommand)], self.trainer.world_size)]
            told += filter(None, [data.mixed()] if self.subcommand == "fit" else [])
            print(*told, sep="\n", flush=True)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except pickle.UnpicklingError as error:
            raise DataError(
                f"checkpoint {self.trainer.ckpt_path}: holds more than tensors and plain values, or is damaged, and "
                "was not loaded; give a .ckpt written by `python -m cvg.train fit`"
            ) from error
        except Exception as error:  # what is damaged in a checkpoint makes Lightning raise nearly anything
            if lost(error):
                if is_to_tell(_PARENT) and first_to_tell():
                    raise EndedEarly(self._ended_early()) from error
                raise SystemExit(2) from error
            if isinstance(error, UserError) or not was_restoring(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"checkpoint {self.trainer.ckpt_path}: what it holds of its training is damaged ({reason}); take "
                "another, or start a new training from its classifier (model.warm_start)"
            ) from error

    def _ended_early(self) -> str:
        """That another process of the training is gone, and what to do."""
        checkpoint = newest(self.trainer.checkpoint_callbacks)
        next_step = f"go on with --ckpt_path {checkpoint}" if checkpoint else "no checkpoint is there yet: begin again"
        return (
            "another process of the training ended early, and with it all do; its own message or the system's log "
            f"says why (memory may have run out); {next_step}"
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Lightning's trainer, with our progress instead of its bars, and checkpoints that appear whole."""
        options = self.config_init[self.subcommand]
        if options.trainer.enable_progress_bar is not False:
            self.trainer_defaults["callbacks"] = [TrainingProgress()]
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # none of the user's
            trainer.strategy.checkpoint_io = WholeCheckpoints()
        return trainer

    def after_fit(self) -> None:
        """Export the best classifier, where asked to.

        Raises:
            DataError: none is best, as nothing was validated.
        """
        folder = self.config[self.subcommand].export
        if folder is None or not self.trainer.is_global_zero:
            return
        best: Any = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if not best:
            raise DataError(
                "export: no checkpoint is the best, as nothing was validated; export the last one with `python -m "
                f"cvg.export --checkpoint {self.trainer.log_dir}/checkpoints/last.ckpt --out {folder}`"
            )
        load_checkpoint(best).save_pretrained(folder)
        print(f"best checkpoint: {best}\nwrote {folder}")


def main(args: list[str] | None = None) -> CompositionCLI:
    """Run the command line.

    Args:
        args: the arguments; those of the process when None.

    Raises:
        SystemExit: code 2 for bad options and bad input, and when the memory does not suffice; 130 on Ctrl-C.
    """
    quiet.silence()
    if args is None:
        sys.argv[1:] = located(sys.argv[1:])  # where Lightning reads them, here and in the processes it starts
    # By OmegaConf a value may name another, as in ${data.batch_size}, and follows it wherever that is given: in another
    # file or on the command line. Its paths begin below the subcommand, hence the setting.
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    mode = {"parser_mode": "omegaconf+"}
    parser: dict[str, Any] = mode | {"default_config_files": [str(shipped("lightning_configs/base.yaml"))]}
    with exit_with_message({}, {MemoryError: "a smaller --data.batch_size"}):
        try:
            return CompositionCLI(
                CompositionModule,
                CompositionDataModule,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_class=Parser,
                parser_kwargs=mode | {name: dict(parser) for name in CompositionCLI.subcommands()},
                save_config_callback=WholeConfig,
                save_config_kwargs={"overwrite": True, "save_to_log_dir": False},
                args=None if args is None else located(args),
            )
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning shuts down, and ends with 1
                raise KeyboardInterrupt from None
            raise


if __name__ == "__main__":
    main()
