"""``cvg COMMAND ...``: every command by one name; ``cvg sample ...`` is ``python -m cvg.sample ...``."""

from __future__ import annotations

import runpy
import sys

import cvg
from cvg.common.cli import called_as

COMMANDS: dict[str, tuple[str, str]] = {
    "sample": ("cvg.sample", "prompts -> guided videos, beside the unguided ones"),
    "evaluate": ("cvg.evaluate", "composition accuracy, guided against unguided from the same noise"),
    "parse": ("cvg.parse", "what prompts are understood to ask for, and how often rightly"),
    "labels": ("cvg.labels", "the labels of a set, how they are shown, and whether it holds together"),
    "report": ("cvg.report", "an evaluation -> one HTML file of tables and figures"),
    "app": ("cvg.app", "all of it in the browser: videos as they denoise, shards, an evaluation's videos"),
    "inspect": ("cvg.inspect", "what a classifier sees in stored shards"),
    "train": ("cvg.train", "shards -> a training checkpoint: cvg train fit|validate|test"),
    "export": ("cvg.export", "a training checkpoint -> a classifier folder"),
    "invert": ("data_prep.invert", "a manifest of videos -> training shards"),
    "collect": ("data_prep.collect", "a downloaded data set -> a manifest of what its videos show"),
    "label": ("data_prep.label", "what videos show, against their captions or labels -> a manifest"),
    "probe": ("data_prep.probe", "which steps, layers and heads of a generator to tap"),
    "probe-rules": ("data_prep.probe_rules", "which layers and heads rules read, from prompts alone"),
    "render": ("data_prep.render", "clips of the shapes world, with their manifest"),
    "synthesize": ("data_prep.synthesize", "labelled videos that the generator makes itself"),
    "world": ("data_prep.world", "free prompts to a judged evaluation, on tiny random models, in minutes"),
    "demo": ("data_prep.demo", "the whole method on the shipped small models, in minutes"),
}
"""Name -> the module that ``python -m`` runs, imported when it is chosen, and what it makes."""


def main(args: list[str] | None = None) -> None:
    """Run a command, or say which there are.

    Args:
        args: the command's name and its arguments; those of the process when None.

    Raises:
        SystemExit: code 2 for an unknown command; what the command itself ends with.
    """
    name, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: cvg COMMAND [options]\n\nCompositional video guidance. COMMAND is one of\n")
        print("\n".join(f"  {name:<11} {what}" for name, (_, what) in COMMANDS.items()))
        print("\ncvg COMMAND --help explains its options; cvg --version tells the version.")
    elif name == "--version":
        print(f"cvg {cvg.__version__}")
    elif name in COMMANDS:
        sys.argv[1:] = rest
        typed = called_as.set(f"cvg {name}")
        try:
            # As `python -m` does, so that processes a command starts find its module again.
            runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)
        finally:
            called_as.reset(typed)
    else:
        print(f"error: command {name!r}: unknown; known: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
