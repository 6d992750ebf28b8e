"""What the parts of an evaluation take."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Timing:
    """Wall seconds per batch; ``early`` and ``verdict`` are what dropping and picking best-of-n candidates costs."""

    unguided: list[float] = field(default_factory=list)
    guided: list[float] = field(default_factory=list)
    early: list[float] = field(default_factory=list)
    verdict: list[float] = field(default_factory=list)
