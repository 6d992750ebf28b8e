"""Train and evaluate a composition classifier: ``python -m cvg.train fit|validate|test --config FILE``.

A configuration file may begin with ``base: OTHER.yaml`` (a path beside it): its own values are laid over the base's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from omegaconf import OmegaConf

from cvg.common.cli import exit_with_message
from cvg.common.errors import DataError
from cvg.training.datamodule import CompositionDataModule
from cvg.training.module import CompositionModule

_MODE = "yaml_with_base"


def _load(text: str, folder: Path = Path()) -> Any:
    """Read YAML as jsonargparse does, and lay it over its ``base``, a path relative to ``folder``.

    jsonargparse reads each file with its own folder as the working directory. Its own way of including a file, a
    ``config:`` key, replaces whole sections of it instead of merging.
    """
    value = jsonargparse.get_loader("yaml")(text)
    if isinstance(value, dict) and "base" in value:
        base = folder / str(value.pop("base"))
        if not base.is_file():
            raise DataError(f"config: its base {base} is not there; give a path relative to the file that names it")
        value = OmegaConf.to_container(OmegaConf.merge(_load(base.read_text(), base.parent), value), resolve=True)
    return value


jsonargparse.set_loader(_MODE, _load, (yaml.YAMLError,))
jsonargparse.set_dumper(_MODE, lambda value: yaml.safe_dump(value, sort_keys=False))


class CompositionCLI(LightningCLI):
    """LightningCLI with one seed for the initial weights and the data."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the seeds."""
        parser.link_arguments("seed_everything", "data.seed")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """All of Lightning's, except predict."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}


def main(args: list[str] | None = None) -> CompositionCLI:
    """Run the command line.

    Args:
        args: the arguments; those of the process when None.

    Raises:
        SystemExit: code 2 for bad options and bad input, and when the memory does not suffice.
    """
    with exit_with_message({}, {MemoryError: "a smaller --data.batch_size"}):
        return CompositionCLI(
            CompositionModule,
            CompositionDataModule,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={"parser_mode": _MODE},
            save_config_kwargs={"overwrite": True},
            args=args,
        )


if __name__ == "__main__":
    main()
