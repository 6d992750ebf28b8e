"""The picture of confusions stays one that can be drawn and read, whatever the label set."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from cvg.training.metrics import plot_confusion


def test_of_many_labels_those_are_shown_that_occur(tmp_path: Path) -> None:
    counts = torch.zeros(200, 200, dtype=torch.long)
    counts[5, 150], counts[10, 10] = 3, 2
    plot_confusion(tmp_path / "many.png", {"p+": counts, "p-": counts}, [f"label {i}" for i in range(200)])
    kept = counts[[5, 10, 150]][:, [5, 10, 150]]
    plot_confusion(tmp_path / "few.png", {"p+": kept, "p-": kept}, ["label 5", "label 10", "label 150"])
    assert (tmp_path / "many.png").read_bytes() == (tmp_path / "few.png").read_bytes()
    nothing = torch.zeros_like(counts)
    plot_confusion(tmp_path / "none.png", {"p+": nothing}, [f"label {i}" for i in range(200)])
    assert max(Image.open(tmp_path / "none.png").size) < 1000
