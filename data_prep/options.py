"""Files of options that commands take with ``--config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cvg.common.files import atomic


def write_yaml(path: Path, comment: str, values: dict[str, Any]) -> None:
    """A configuration with a comment on top and lists in one line."""
    text = yaml.safe_dump(values, default_flow_style=None, sort_keys=False, allow_unicode=True)
    with atomic(path) as temporary:
        temporary.write_text(f"# {comment}\n{text}", encoding="utf-8")
