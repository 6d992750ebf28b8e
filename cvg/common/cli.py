"""One command line for every command: its options are the typed, documented parameters of a function."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import auto_cli

from cvg.common.errors import UserError
from cvg.common.memory import explain, is_out_of_memory


def run(function: Callable[..., Any], prog: str, description: str | None = None, args: list[str] | None = None) -> Any:
    """Call ``function`` with the options of the command line.

    Every parameter becomes ``--name`` (required without a default), of its annotated type, explained by the
    function's ``Args:``. ``--config FILE`` reads options from YAML (later options win), ``--print_config`` writes such
    a file, ``--help`` explains all. ``--batch-size`` is ``--batch_size``.

    Args:
        function: annotated function with a Google-style docstring. It must not have a parameter named ``config``.
        prog: the command as the user types it, e.g. ``"python -m cvg.sample"``.
        description: text of ``--help``; the first line of the docstring when None.
        args: the arguments, for tests; ``sys.argv[1:]`` when None.

    Returns:
        What ``function`` returns.

    Raises:
        SystemExit: code 2 after ``error: <message>`` on stderr for wrong options, every UserError, and when the memory
            does not suffice; 130 on Ctrl-C.
    """
    given = [_underscored(argument) for argument in (sys.argv[1:] if args is None else args)]
    parsed: dict[str, Any] = {}

    @functools.wraps(function)
    def noting(**options: Any) -> Any:
        parsed.update(options)
        return function(**options)

    try:
        return auto_cli(noting, args=given, as_positional=False, prog=prog, description=description)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: {explain(error, parsed)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _underscored(argument: str) -> str:
    """``--batch-size=8`` as ``--batch_size=8``; values are left as they are."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
