"""One command line for every command: its options are the typed, documented parameters of a function."""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, auto_cli, get_loader

from cvg.common import quiet
from cvg.common.configs import located
from cvg.common.errors import UserError
from cvg.common.files import full

_EPILOG = (
    "An option of a group goes by its last name too, where no other option ends like it: --device for "
    "--loading.device; a configuration file takes both."
)

_FORMS = {"list": "a list is written as '[a, b]'", "Size": "a size as '[frames, height, width]'"}
"""How values of several parts are written, by the name of their type in a usage error."""

quiet.hush_loggers()  # here, as a command's other modules, and with them the libraries, are imported after this one

called_as: ContextVar[str | None] = ContextVar("called_as", default=None)
"""The command as the user typed it, where that is not ``python -m MODULE``."""


class PlainText:
    """For a parser of jsonargparse: help in plain text, and errors of two lines."""

    prog: str

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, without the markup of docstrings."""
        text: str = super().format_help(*args, **kwargs)  # type: ignore[misc]
        return _plain(re.sub(r"(?::\w+:)?(`{1,2})~?([^`]*)\1", r"\2", text))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with the message in one line, and where to read on in another."""
        line = " ".join(message.split())
        unions = r"Does not validate .* Subtypes: \[(.*)\] Errors: .* Given value: "
        line = re.sub(unions, r"Expected one of \1. Got value: ", line)
        line += "".join(f"; {form}" for kind, form in _FORMS.items() if re.search(rf"Expected.*\b{kind}\b.*Got", line))
        prog = (getattr(ex, "subcommand_parser", None) or self).prog.replace(" [options]", "")
        print(f"error: {_plain(line)}\nall options: {prog} --help", file=sys.stderr)
        raise SystemExit(2)


class Parser(PlainText, ArgumentParser):
    """A parser with short names for the options of groups."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse, with short names: ``--device`` for ``--loading.device`` where no other option ends in ``device``."""
        for short, action in self._short_names().items():
            if f"--{short}" not in action.option_strings:
                action.option_strings = [*action.option_strings, f"--{short}"]
                self._option_string_actions[f"--{short}"] = action
        return super().parse_args(*args, **kwargs)

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        """Parse a configuration, whose top level may use the short names."""
        found = get_loader("yaml")(content)
        names = self._short_names() if isinstance(found, dict) else {}
        short = {name: action for name, action in names.items() if name in found}
        for name, action in short.items():
            *groups, last = action.dest.split(".")
            inner = functools.reduce(lambda outer, group: outer.setdefault(group, {}), groups, found)
            inner.setdefault(last, found.pop(name))
        return super().parse_string(yaml.safe_dump(found) if short else content, *args, **kwargs)

    def _short_names(self) -> dict[str, Any]:
        """Last name -> action, of the options of groups whose last name is theirs alone."""
        ends = Counter(action.dest.rpartition(".")[2] for action in self._actions)
        nested = {action.dest.rpartition(".")[2]: action for action in self._actions if "." in action.dest}
        return {name: action for name, action in nested.items() if ends[name] == 1}


def run(
    function: Callable[..., Any],
    prog: str,
    description: str | None = None,
    args: list[str] | None = None,
    remedies: Mapping[type[Exception], str] = {},
) -> Any:
    """Call ``function`` with the options of the command line.

    Every parameter becomes ``--name`` (required without a default), of its annotated type, explained by the
    function's ``Args:``. The fields of a parameter that is a dataclass are ``--name.field``, and ``--field`` where no
    other option ends in that. ``--config FILE`` reads options from YAML (later options win), ``--print_config`` writes
    such a file, ``--help`` explains all. ``--batch-size`` is ``--batch_size``.

    Args:
        function: annotated function with a Google-style docstring. It must not have a parameter named ``config``.
        prog: the command as the user types it, e.g. ``"python -m cvg.sample"``.
        description: text of ``--help``; the first line of the docstring when None.
        args: the arguments, for tests; ``sys.argv[1:]`` when None.
        remedies: kind of error -> which options help, added to its message; see :func:`exit_with_message`.

    Returns:
        What ``function`` returns.

    Raises:
        SystemExit: code 2 after ``error: <message>`` on stderr for wrong options, every UserError, and when the memory
            does not suffice; 130 on Ctrl-C.
    """
    given = located([_underscored(argument) for argument in (sys.argv[1:] if args is None else args)])
    options: dict[str, Any] = {}

    @functools.wraps(function)
    def call(**parsed: Any) -> Any:
        options.update(parsed)
        quiet.silence()
        return function(**parsed)

    with exit_with_message(options, remedies):
        return auto_cli(
            call,
            args=given,
            as_positional=False,
            parser_class=Parser,
            prog=called_as.get() or prog,
            description=description,
            epilog=_EPILOG,
            allow_abbrev=False,
        )


@contextmanager
def exit_with_message(options: Mapping[str, Any], remedies: Mapping[type[Exception], str]) -> Iterator[None]:
    """Within it, what the user can mend ends the process with one line on stderr instead of a traceback.

    Args:
        options: the command's, by name, as far as they are known by the time of the error.
        remedies: kind of error -> which options help. Library code states facts and knows no options, so that commands
            add these. Without a remedy of MemoryError, :func:`next_try` finds one.

    Raises:
        SystemExit: code 2 for a UserError, a full disk and exhausted memory, 130 for Ctrl-C.
    """
    try:
        yield
    except UserError as error:
        added = [remedy for kind, remedy in remedies.items() if isinstance(error, kind)]
        message = "; ".join([str(error), *added])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:  # of a disk, in what a library writes
        if (reason := full(error)) is None:
            raise
        place = error.filename2 or error.filename or "the output"
        message = f"{place}: cannot be written ({reason}); make room there, or choose another place"
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = ". ".join((str(error) or "no more could be allocated").splitlines()[0].split(". ")[:2]).rstrip(".")
        where = f" on device {options['loading'].device}" if "loading" in options else ""
        message = f"out of memory{where}: {reason}; try {remedies.get(MemoryError) or next_try(options)}"
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an accelerator's or the machine's memory ran out."""
    import torch  # only here: this module is imported by commands that need neither
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def next_try(options: Mapping[str, Any]) -> str:
    """The cheapest option of a command that is not on yet and saves memory; docs/memory.md has the reasons.

    Args:
        options: the command's, by name; ``loading`` among them is a Loading.
    """
    loading, guiding = options.get("loading"), options.get("guiding")
    if (batch_size := options.get("batch_size", 1)) > 1:
        return f"--batch_size {batch_size // 2}"
    if loading is not None and (advice := _lighter(loading, "guiding" in options)):
        return advice
    if guiding is not None and guiding.smoothing > 1:
        return "--guiding.smoothing 1"
    if "layers" in options:
        return "fewer --layers, or a smaller --size"
    if "classifier" in options:
        return "a classifier of fewer or smaller maps (fewer layers, a smaller size), or a smaller generator"
    return "smaller inputs, or a machine with more memory"


def _lighter(loading: Any, gradients: bool) -> str | None:
    """The next loading option that saves memory; None when all are on."""
    accelerator = loading.device != "cpu"
    if loading.dtype == "float32":
        return "--dtype bfloat16"
    if loading.offload == "none" and accelerator:
        return "--offload model"
    if gradients and not loading.checkpointing and loading.offload != "group":
        return "--checkpointing true"
    if not loading.tiling:
        return "--tiling true"
    if loading.offload == "model" and accelerator:
        return "--offload group" + (" --compile false" if loading.compile else "")
    return None


def _plain(text: str) -> str:
    """``<class 'int'>`` as ``int``, ``NoneType`` as ``null``."""
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.(?=\w+\[)", lambda found: found[1] or "", text)
    return text.replace("NoneType", "null")


def _underscored(argument: str) -> str:
    """``--batch-size=8`` as ``--batch_size=8``; values are left as they are."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
