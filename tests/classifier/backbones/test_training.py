"""A backbone chosen on the command line, from training to the exported classifier."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.classifier import CompositionClassifier
from cvg.common.errors import UserError
from cvg.export import export
from cvg.train import main
from cvg.training.module import CompositionModule

ROOT = Path(__file__).parents[3]


def arguments(shards: Path, out: Path, path: Path, *options: str) -> list[str]:
    values = {
        "config": ROOT / "lightning_configs/shapes.yaml",
        "data.shards": f"[{shards}]",
        "data.mirror": "null",
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": 1,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.log_every_n_steps": 1,
        "trainer.logger.init_args.save_dir": out,
        "model.backbone": "vlm",
        "model.backbone_path": path,
        "model.backbone_layer": -1,
        "model.backbone_pool": 2,
    }
    return ["fit", *(f"--{name}={value}" for name, value in values.items()), *options]


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI warns when the process has arguments besides those it is given."""
    monkeypatch.setattr(sys, "argv", ["cvg"])


@pytest.mark.parametrize("kind", ["siglip", "smolvlm"])
def test_trained_through_a_backbone_and_exported(
    kind: str, folder: Callable[[str], Path], shards: Path, tmp_path: Path
) -> None:
    options = ["--model.backbone_options={dtype: bfloat16, layout: in_turn, checkpointing: true, contrast: [1, 2]}"]
    module: Any = main(arguments(shards, tmp_path, folder(kind), *options)).model
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert {name.split(".")[1] for name in state} == {"aggregator", "absent_SKFHW", "head"}
    export(str(checkpoint), tmp_path / "exported")
    spec = {"name": "vlm", "path": str(folder(kind)), "layer": -1, "pool": 2, "dtype": "bfloat16"}
    spec |= {"layout": "in_turn", "checkpointing": True, "contrast": [1, 2]}
    written = json.loads((tmp_path / "exported" / "config.json").read_text())["backbone"]
    assert len(written.pop("fingerprint")) == 16 and written == spec
    classifier: Any = CompositionClassifier.from_pretrained(tmp_path / "exported")
    volume, present = torch.randn(2, 2, 4, 8, 8), torch.ones(2, 2, dtype=torch.bool)
    assert torch.equal(classifier.backbone(volume, present), module.classifier.backbone(volume, present))
    assert classifier.backbone.frames == 8


def test_options_that_do_not_exist(
    folder: Callable[[str], Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments(shards, tmp_path, folder("siglip"), "--model.backbone_options.colour=red"))
    assert "unknown key 'colour'; known: layer, pool, layout, contrast, dtype, checkpointing" in capsys.readouterr().err
    with pytest.raises(UserError, match="model.backbone_options: layer has its own option"):
        CompositionModule("vlm", "somewhere", backbone_options={"layer": 2})
