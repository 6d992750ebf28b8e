"""A progress bar of denoising steps."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm


class StepBar:
    """Shows at which denoising step of how many a command is. Called with every step, as a sampler's ``observe``.

    Args:
        name: shown before it.
        runs: how often the sampler will be called.
        steps: denoising steps of each call.
        shown: whether it is; of several processes one shows it.
    """

    def __init__(self, name: str, runs: int, steps: int, shown: bool = True) -> None:
        self.steps, self.runs = steps, 0
        self.bar: tqdm[Any] = tqdm(total=runs * steps, desc=name, unit="step", disable=not shown)

    def __call__(self, step: int, latents: Any = None) -> None:
        """Show that this step begins; the latents are not looked at."""
        if step == 0:
            self.runs += 1
        self.bar.update((self.runs - 1) * self.steps + step - self.bar.n)

    def skip(self, runs: int) -> None:
        """Count calls that are not made."""
        self.runs += runs
        self.bar.update(self.runs * self.steps - self.bar.n)

    def say(self, line: str) -> None:
        """Print a line above it."""
        self.bar.write(line)

    def warn(self, line: str) -> None:
        """Print a warning above it, to standard error."""
        self.bar.write(f"warning: {line}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Show a text behind it."""
        self.bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> StepBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.skip(0)
        self.bar.close()
