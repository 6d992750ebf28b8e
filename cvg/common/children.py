"""Programs that are run beside this process: they end in time, and with it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence


def run_child(command: Sequence[str], data: bytes | None, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        data: what it reads from its standard input; nothing for None.
        seconds: it is ended after so many.

    Returns:
        Its exit code and what it wrote.

    Raises:
        TimeoutError: it took longer.
    """
    stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
    process = subprocess.Popen([*_guard(), *command], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(data, seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from error
    finally:  # an interrupt, too, leaves none behind
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@functools.cache
def _guard() -> list[str]:
    """What starts a program such that it ends with this process however that ends; nothing where there is none.

    ``setpriv`` is of util-linux. The other way, a call between fork and exec, may lock up a process with threads.
    """
    guard = ["setpriv", "--pdeathsig", "KILL"]
    if shutil.which(guard[0]) and not subprocess.run([*guard, "true"], capture_output=True, check=False).returncode:
        return guard
    return []
