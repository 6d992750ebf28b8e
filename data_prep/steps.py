"""A command made of public commands: each a step that is not run again where it is done."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvg.common.errors import UserError
from cvg.common.files import read_json, write_json


@dataclass(frozen=True)
class Step:
    """One command of a row of them.

    Attributes:
        name: shown, and the key of its entry in steps.json.
        command: module and options of ``python -m``.
        output: what exists once it is finished.
        fresh: folder that an interrupted run leaves unusable and that is removed before another.
    """

    name: str
    command: list[str]
    output: Path
    fresh: Path | None = None


def run_step(step: Step, out: Path, after: bool) -> bool:
    """Run a step unless it is done, and note its command and time in OUT/steps.json.

    Args:
        step: the step.
        out: the folder of all.
        after: an earlier step ran just now, so this one must run again.

    Returns:
        Whether it ran.

    Raises:
        UserError: the command failed.
    """
    log = out / "steps.json"
    done: dict[str, Any] = read_json(log) if log.exists() else {}
    shown = f"python -m {shlex.join(step.command)}"
    if not after and step.output.exists() and done.get(step.name, {}).get("command") == step.command:
        print(f"\n== {step.name}: done before, in {done[step.name]['seconds']:.0f} s\n   {shown}", flush=True)
        return False
    print(f"\n== {step.name}\n   {shown}", flush=True)
    if step.fresh is not None and step.fresh.exists():
        shutil.rmtree(step.fresh)
    began = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", *step.command], check=False).returncode
    seconds = time.perf_counter() - began
    if code == -2 or code == 130:
        raise KeyboardInterrupt
    if code or not step.output.exists():
        raise UserError(
            f"the step {step.name!r} ended with exit code {code}, see its message above; "
            "the same command goes on after the last finished step"
        )
    write_json(log, done | {step.name: {"command": step.command, "seconds": round(seconds, 1)}})
    print(f"   {step.name}: {seconds:.0f} s", flush=True)
    return True
