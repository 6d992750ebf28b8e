"""Training: data order, gradients, learning, resuming, several processes, the command line and the export."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from cvg.classifier import CompositionClassifier
from cvg.classifier.checkpoint import load_checkpoint
from cvg.classifier.config import SamplingSettings
from cvg.common.errors import UserError
from cvg.common.typed import to_dict
from cvg.composition import LabelSet
from cvg.export import export
from cvg.guidance.config import FADE, GUIDED_STEPS, ITERATIONS, REPEAT_BELOW, SPREAD, STEP_SIZE, GuidanceConfig
from cvg.shards.mirror import Mirror
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo
from cvg.train import CompositionCLI
from cvg.training.datamodule import CompositionDataModule
from cvg.training.metrics import CalibrationError
from cvg.training.module import CompositionModule
from cvg.training.perturbation import random_steps
from tests.helpers.tiny import make_vlm
from tests.helpers.training import MIRROR, batches_of, command, fit, metrics_of

ROOT = Path(__file__).parents[2]


class Losses(Callback):
    """Collect the training losses; optionally leave after some step, as a killed run would."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.values: list[float] = []
        self.stop_at = stop_at

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))
        if trainer.global_step == self.stop_at:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "mid.ckpt")
            raise KeyboardInterrupt


# Data


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("workers", [0, 2])
def test_order_depends_on_seed_and_epoch_alone(shards: Path, workers: int) -> None:
    """Of records that fit into memory."""
    data = CompositionDataModule([str(shards)], batch_size=32, mirror=MIRROR)
    reference = batches_of(data)
    assert len(reference) == 5
    assert len({seed for batch in reference for seed in batch["seed"].tolist()}) == 160
    other = CompositionDataModule([str(shards)], batch_size=32, mirror=MIRROR, num_workers=workers)
    assert all(same(a, b) for a, b in zip(reference, batches_of(other), strict=True))
    assert all(same(a, b) for a, b in zip(reference[3:], batches_of(other, start=3), strict=True))
    assert not same(reference[0], batches_of(data, epoch=1)[0])
    halves = [batches_of(other, rank=rank, ranks=2) for rank in range(2)]
    for batch, *parts in zip(reference, *halves, strict=True):
        assert same(batch, {name: torch.cat([part[name] for part in parts]) for name in batch})


def test_an_epoch_shows_every_record_once(shards: Path) -> None:
    data = CompositionDataModule([str(shards)], batch_size=32)
    sums = sorted(float(x.float().sum()) for b in batches_of(data) for x in b["positive"])
    again = sorted(float(x.float().sum()) for b in batches_of(data, epoch=5) for x in b["positive"])
    assert len(set(sums)) == 160 and sums == again


def test_evaluation_sees_each_record_once_in_equal_batches(shards: Path) -> None:
    data = CompositionDataModule([str(shards)], eval_batch_size=16)
    seen = []
    for rank in range(2):
        loader = data.val_dataloader()
        loader.stream.rank, loader.stream.ranks = rank, 2
        batches = list(loader)
        assert [len(batch["label"]) for batch in batches] == [8, 8, 8]
        seen += [float(x.float().sum()) for b in batches for x in b["positive"][b["valid"]]]
    assert len(seen) == len(set(seen)) == 40


def test_passes_go_on_where_there_are_fewer_records_than_a_batch(
    shard_factory: Callable[..., Path], tmp_path: Path
) -> None:
    a = shard_factory(tmp_path, {"train": 16})
    few = CompositionDataModule([str(a)], batch_size=64)
    assert [len(batch["label"]) for batch in batches_of(few)] == [64]


def test_steps_and_layers_can_be_chosen_from_what_is_stored(shards: Path) -> None:
    (all_of_it,) = batches_of(CompositionDataModule([str(shards)], batch_size=160))
    data = CompositionDataModule([str(shards)], batch_size=160, at=[1], layers=[0])
    assert data.info.sigmas == [0.9] and data.info.layers == [0]
    (chosen,) = batches_of(data)
    for side in ("positive", "negative"):
        assert torch.equal(chosen[side], all_of_it[side][:, 1:, :1])
    for options in ({"at": [2]}, {"at": [1, 0]}, {"layers": []}, {"layers": [5]}):
        with pytest.raises(UserError, match=f"data.{next(iter(options))} .*in ascending order"):
            CompositionDataModule([str(shards)], **options).setup("fit")  # type: ignore[arg-type]


def test_bad_data_is_refused(shard_factory: Callable[..., Path], shards: Path, tmp_path: Path) -> None:
    a = shard_factory(tmp_path / "a", {"train": 8})
    for name, value in (
        ("sigmas", [0.9, 0.8]),
        ("generator", {"name": "tiny", "class": "Tiny", "fingerprint": "1"}),
        ("layers", [4, 5]),
    ):
        b = shard_factory(tmp_path / name, {"train": 8}, changes={name: value})
        with pytest.raises(UserError, match=f"differ in `{name}`"):
            CompositionDataModule([str(a), str(b)]).setup("fit")
    moved = {"generator": {"name": "/elsewhere/tiny", "class": "Tiny", "fingerprint": "0"}}
    b = shard_factory(tmp_path / "moved", {"train": 8}, changes=moved)
    assert CompositionDataModule([str(a), str(b)]).info.generator["name"] == "tiny"  # of one model in two places
    with pytest.raises(UserError, match="no val records"):
        CompositionDataModule([str(a)]).val_dataloader()
    counted = shard_factory(tmp_path / "counted", {"train": 8}, changes={"counts": {"train": {"left": 9}}})
    with pytest.raises(UserError, match="hold 8 records, shards.json counts 9"):
        batches_of(CompositionDataModule([str(counted)], batch_size=8))
    turned = {"grid": [4, 4, 16], "token_grid": [4, 4, 16]}
    shaped = shard_factory(tmp_path / "shaped", {"train": 8}, changes=turned)
    with pytest.raises(UserError, match="maps of shape"):
        batches_of(CompositionDataModule([str(shaped)], batch_size=8))
    unlisted = shard_factory(tmp_path / "unlisted", {"train": 8}, changes={"counts": {}})
    with pytest.raises(UserError, match="1 train tars"):
        CompositionDataModule([str(unlisted)]).train_dataloader()
    for options, message in (
        ({"shards": []}, "no folder"),
        ({"shards": ["a"], "batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            CompositionDataModule(**options)


@pytest.mark.parametrize(
    ("mirror", "label", "swapped", "undo"),
    [
        ("horizontal", "left", "right", lambda maps: maps.flip(-1)),
        ("horizontal", "above", "above", lambda maps: maps.flip(-1)),
        ("vertical", "above", "below", lambda maps: maps.flip(-2)),
        ("diagonal", "left", "up", lambda maps: maps.transpose(-1, -2)),
        ("diagonal", "above", "left of", lambda maps: maps.transpose(-1, -2)),
        ("time", "left", "right", lambda maps: maps.flip(-3)),
        ("time", "above", "above", lambda maps: maps.flip(-3)),
    ],
)
def test_mirror_changes_maps_and_label_together(
    mirror: str,
    label: str,
    swapped: str,
    undo: Callable[[torch.Tensor], torch.Tensor],
    record_factory: Callable[..., Record],
    shards: Path,
) -> None:
    info = ShardInfo.load(shards)
    mirrored = Mirror([mirror], info.label_set, info.grid)
    seen = set()
    for seed in range(16):
        record = record_factory("x", label, seed)
        positive, negative, name = mirrored(record, random.Random(seed))
        changed = not torch.equal(positive, record.positive_SLAKFHW)
        seen.add(changed)
        assert name == (swapped if changed else label)
        assert torch.equal(undo(positive) if changed else positive, record.positive_SLAKFHW)
        assert torch.equal(undo(negative) if changed else negative, record.negative_SLAKFHW)
    assert seen == {False, True}


def test_mirrors_that_make_no_sense_are_refused(shards: Path) -> None:
    labels = ShardInfo.load(shards).label_set
    for axis, message in (("sideways", "'sideways' is unknown"), ("diagonal", "8 x 6")):
        with pytest.raises(UserError, match=message):
            Mirror([axis], labels, (4, 8, 6))


def test_step_subsets_are_never_empty_and_reach_all() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = {tuple(random_steps(3, generator).tolist()) for _ in range(300)}
    assert len(seen) == 7 and (False, False, False) not in seen


def test_calibration_error() -> None:
    metric = CalibrationError()
    metric.update(torch.tensor([[0.9, 0.1]] * 10), torch.tensor([0] * 9 + [1]))
    torch.testing.assert_close(metric.compute(), torch.tensor(0.0), atol=1e-6, rtol=0)
    metric.update(torch.tensor([[1.0, 0.0]] * 10), torch.tensor([1] * 10))
    torch.testing.assert_close(metric.compute(), torch.tensor(0.5), atol=1e-6, rtol=0)


# Training


def test_training_learns_and_reports(shards: Path, tmp_path: Path) -> None:
    losses = Losses()
    options = {"noise": 0.3, "adversarial": 0.2, "lr": 0.01}
    trainer = fit(tmp_path, shards, options, {"mirror": MIRROR}, (losses,), epochs=8, picture=True)
    metrics = metrics_of(tmp_path)
    assert metrics["val/accuracy_positive"] > 0.85 and metrics["val/accuracy_negative"] > 0.85
    assert losses.values[-1] < 0.5 * losses.values[0]
    steps = {f"val/accuracy_{side}/{name}" for side in ("positive", "negative") for name in ("step0", "step1")}
    groups = {f"val/accuracy_{side}/{name}" for side in ("positive", "negative") for name in ("motion", "spatial")}
    assert steps | groups <= set(metrics)
    assert metrics["val/accuracy_positive/first"] == metrics["val/accuracy_positive/step0"]
    gap = metrics["val/accuracy_positive"] - metrics["val/accuracy_negative"]
    assert metrics["val/leakage_gap"] == pytest.approx(gap)
    assert 0 <= metrics["val/calibration_error_negative"] <= 1
    log = tmp_path / "log/version_0"
    assert (log / "confusion.png").read_bytes().startswith(b"\x89PNG")
    with (log / "metrics.csv").open() as file:
        assert any(row.get("val/loss") for row in csv.DictReader(file))

    # The checkpoint is safe to read, small, and all that the export needs.
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(name.startswith("classifier.") for name in checkpoint["state_dict"])
    json.dumps(checkpoint["hyper_parameters"])
    export(str(tmp_path / "last.ckpt"), tmp_path / "exported")
    exported = CompositionClassifier.from_pretrained(tmp_path / "exported")
    trained: Any = trainer.lightning_module
    for name, value in trained.classifier.state_dict().items():
        assert torch.equal(value, exported.state_dict()[name])
    assert exported.config.sigmas == [0.99, 0.9] and exported.config.noise == 0.3

    # And a new training can start from the export, if it fits.
    warm = Losses()
    fit(tmp_path / "warm", shards, options | {"warm_start": str(tmp_path / "exported")}, callbacks=(warm,), epochs=1)
    assert warm.values[0] < 0.5 * losses.values[0]
    with pytest.raises(UserError, match="do not fit"):
        fit(tmp_path / "misfit", shards, {"depth": 0, "warm_start": str(tmp_path / "exported")}, epochs=1)


def test_groups_can_be_spared_the_worst_case(shards: Path, tmp_path: Path) -> None:
    def losses(name: str, **options: Any) -> list[float]:
        found = Losses()
        fit(tmp_path / name, shards, options, callbacks=(found,), epochs=1)
        return found.values

    plain, worst = losses("plain"), losses("worst", adversarial=0.3)
    some = losses("some", adversarial=0.3, adversarial_without=["motion"])
    none = losses("none", adversarial=0.3, adversarial_without=["motion", "spatial"])
    assert none == plain and plain[0] < some[0] < worst[0]
    with pytest.raises(UserError, match="adversarial_without 'depth': no group of the labels, which are motion, spat"):
        losses("unknown", adversarial=0.3, adversarial_without=["depth"])
    with pytest.raises(UserError, match="adversarial_without motion: model.adversarial is 0, so that no group is pert"):
        losses("nothing", adversarial_without=["motion"])


def test_only_the_classifier_gets_gradients_and_positive_only_ignores_negatives(shards: Path, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Look(Callback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            seen.update({name: parameter.grad is not None for name, parameter in module.named_parameters()})

    losses = {}
    for name, model in (("both", {}), ("positive", {"positive_only": True})):
        collected = Losses()
        fit(tmp_path / name, shards, model, callbacks=(Look(), collected), epochs=1)
        losses[name] = collected.values
    assert all(seen.values()) and all(name.startswith("classifier.") for name in seen)
    # Untrained, each of the two terms is about log 4.
    assert losses["both"][0] / losses["positive"][0] == pytest.approx(2, abs=0.3)


def test_resuming_in_the_middle_of_an_epoch_changes_nothing(shard_factory: Callable[..., Path], tmp_path: Path) -> None:
    def made_by(folder: str, **identity: str) -> Path:
        """The same records, whatever the identity of their generator."""
        generator = {"name": "tiny", "class": "Tiny", "fingerprint": "0"} | identity
        counts = {"train": 160, "val": 40}
        return shard_factory(tmp_path / folder, counts, samples=64, changes={"generator": generator})

    shards = made_by("shards")
    options = {"noise": 0.3, "dropout": 0.1}
    whole, first, rest = Losses(), Losses(stop_at=7), Losses()
    fit(tmp_path / "whole", shards, options, {"mirror": MIRROR}, (whole,), epochs=3)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "cut", shards, options, {"mirror": MIRROR}, (first,), epochs=3)
    mid = tmp_path / "cut/mid.ckpt"
    moved = made_by("moved", name="/elsewhere/tiny")  # the same generator in another place
    fit(tmp_path / "rest", moved, options, {"mirror": MIRROR}, (rest,), epochs=3, ckpt_path=mid)
    assert len(whole.values) == 15
    assert first.values + rest.values == whole.values
    with pytest.raises(UserError, match="its training had batch_size 32"):
        fit(tmp_path / "other", shards, options, {"mirror": MIRROR, "batch_size": 16}, epochs=3, ckpt_path=mid)
    with pytest.raises(UserError, match="its training had model.noise 0.3, this one has 0.1"):
        fit(tmp_path / "third", shards, {"noise": 0.1}, {"mirror": MIRROR}, epochs=3, ckpt_path=mid)
    other = made_by("another", fingerprint="1")
    with pytest.raises(UserError, match="its classifier has generator"):
        fit(tmp_path / "fourth", other, options, {"mirror": MIRROR}, epochs=3, ckpt_path=mid)


def test_resuming_between_epochs_changes_nothing(shards: Path, tmp_path: Path) -> None:
    whole, first, rest = Losses(), Losses(stop_at=5), Losses()
    fit(tmp_path / "whole", shards, {}, {}, (whole,), epochs=2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "cut", shards, {}, {}, (first,), epochs=2)
    fit(tmp_path / "rest", shards, {}, {}, (rest,), epochs=2, ckpt_path=tmp_path / "cut/mid.ckpt")
    assert first.values + rest.values == whole.values


def test_bad_options_are_refused() -> None:
    for options, message in (
        ({"dim": 10, "attention_heads": 4}, "does not divide"),
        ({"volume_size": [3]}, "volume_size"),
        ({"noise": -1.0}, "noise -1.0: give a number"),
    ):
        with pytest.raises(UserError, match=message):
            CompositionModule(**options)


def test_checkpoints_that_cannot_be_exported(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"junk")
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    for name, message in (("a", "not a checkpoint"), ("b", "not a classifier's config"), ("c", "No such file")):
        with pytest.raises(UserError, match=message):
            load_checkpoint(tmp_path / f"{name}.ckpt")


# Command line


def main(args: list[str], picture: bool = False) -> CompositionCLI:
    return command(args, picture)


def cli(config: str, shards: Path, out: Path, *more: str, subcommand: str = "fit") -> list[str]:
    options = {
        "data.shards": f"[{shards}]",
        "data.batch_size": "32",
        "data.mirror": "null",
        "trainer.accelerator": "cpu",
        "trainer.logger.init_args.save_dir": str(out),
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.log_every_n_steps": "1",
        "model.dim": "16",
        "model.depth": "1",
    }
    configs = dict.fromkeys(["shapes.yaml", config])  # each variant lies over it
    return [
        subcommand,
        *(f"--config={ROOT / 'lightning_configs' / name}" for name in configs),
        *(f"--{k}={v}" for k, v in options.items()),
        *more,
    ]


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI warns when the process has arguments besides those it is given."""
    monkeypatch.setattr(sys, "argv", ["cvg"])


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> CompositionCLI:
    """A training of one epoch by the command."""
    return main(cli("shapes_none.yaml", shards, tmp_path_factory.mktemp("trained"), "--trainer.max_epochs=1"))


@pytest.mark.parametrize(
    "config", sorted(path.name for path in (ROOT / "lightning_configs").glob("*.yaml") if path.name != "base.yaml")
)
def test_every_config_trains(config: str, shards: Path, tmp_path: Path) -> None:
    alone = config in ("shapes_none.yaml", "shapes_convolution.yaml")
    more = [] if alone else ["--model.backbone=none", "--model.backbone_path=null"]
    head = {"shapes_anchored.yaml": "anchored", "shapes_joint.yaml": "joint"}.get(config, "linear")
    if head != "linear":  # it needs a text tower
        words = "a red blue circle square moving left right up down of above below".split()
        more = [f"--model.backbone_path={make_vlm(tmp_path / 'vlm', 'xclip', words)}", "--model.head_rank=4"]
        more += ["--model.backbone_layer=-1"]  # the tiny one has a single layer
    result = main(cli(config, shards, tmp_path, "--trainer.max_epochs=1", *more))
    assert result.trainer.global_step == 5
    folder = tmp_path / "train" / "version_0"
    assert (folder / "metrics.json").is_file() and (folder / "config.yaml").is_file()
    assert result.model.hparams["head"] == head
    assert result.datamodule.mirror is None and result.model.hparams["noise"] == 0.5
    base = yaml.safe_load((ROOT / "lightning_configs/base.yaml").read_text())
    assert result.trainer.gradient_clip_val == base["trainer"]["gradient_clip_val"]


def test_an_export_carries_how_to_guide(trained: CompositionCLI, tmp_path: Path) -> None:
    checkpoint = str(Path(str(trained.trainer.log_dir)) / "checkpoints/last.ckpt")
    chosen: dict[str, Any] = {"step_size": 0.04, "rules": 0.5, "spread": 1.0, "guided_steps": 2, "later": {"motion": 1}}
    chosen |= {"fade": 1.0, "iterations": 4, "repeat_below": 0.9, "every_step": True}
    export(checkpoint, tmp_path / "own", sampling=SamplingSettings(guidance_scale=3.0, **chosen))
    export(checkpoint, tmp_path / "plain")
    own, plain = (CompositionClassifier.from_pretrained(tmp_path / name).config for name in ("own", "plain"))
    assert to_dict(own.sampling) == {**chosen, "guidance_scale": 3.0}
    assert plain.sampling == SamplingSettings()
    assert GuidanceConfig().preferred(own.sampling) == GuidanceConfig(**chosen)
    others: dict[str, Any] = {"step_size": 0.1, "rules": 0.0, "spread": 0.0, "guided_steps": 0, "later": {}}
    others |= {"fade": 0.0, "iterations": 1, "repeat_below": 0.0, "every_step": False}
    assert GuidanceConfig(**others).preferred(own.sampling) == GuidanceConfig(**others)
    usual: dict[str, Any] = {"step_size": STEP_SIZE, "rules": 0.0, "spread": SPREAD, "guided_steps": GUIDED_STEPS}
    usual |= {"fade": FADE, "iterations": ITERATIONS, "repeat_below": REPEAT_BELOW, "every_step": False}
    assert GuidanceConfig().preferred(plain.sampling) == GuidanceConfig(**usual, later={})
    with pytest.raises(UserError, match="^sampling: 'step_size' is -1"):
        export(checkpoint, tmp_path / "wrong", sampling=SamplingSettings(step_size=-1.0))
    with pytest.raises(UserError, match=r"sampling.later 'colour': no group of the labels, which are motion"):
        export(checkpoint, tmp_path / "wrong", sampling=SamplingSettings(later={"colour": 2}))
    assert not (tmp_path / "wrong").exists()


def test_validate_and_test_from_a_checkpoint(trained: CompositionCLI, shards: Path, tmp_path: Path) -> None:
    trainer: Any = trained.trainer
    best = trainer.checkpoint_callback.best_model_path
    val = json.loads((Path(trainer.log_dir) / "metrics.json").read_text())
    for subcommand, stage in (("validate", "val"), ("test", "test")):
        args = cli("shapes_none.yaml", shards, tmp_path, f"--ckpt_path={best}", subcommand=subcommand)
        result = main(args, picture=stage == "test")
        folder = Path(str(result.trainer.log_dir))
        metrics = json.loads((folder / "metrics.json").read_text())
        assert all(name.startswith(f"{stage}/") for name in metrics)
        assert (folder / "confusion.png").is_file() == (stage == "test")  # drawn once: it takes longer than all else
        if stage == "val":
            assert metrics == pytest.approx(val)


def test_the_last_checkpoint_is_that_of_the_last_epoch(shards: Path, tmp_path: Path) -> None:
    """Also when no epoch is better than the first: nothing is learned at a rate of zero."""
    run = main(cli("shapes_none.yaml", shards, tmp_path, "--trainer.max_epochs=2", "--model.lr=0.0"))
    folder = Path(str(run.trainer.log_dir)) / "checkpoints"
    epochs = {path.name: torch.load(path, weights_only=True)["epoch"] for path in folder.iterdir()}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 1}


def test_later_configurations_lie_over_earlier_ones(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section by section; mirrors are one value. What ships is found outside the checkout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("model: {noise: 0.25}\ndata: {mirror: [time]}\n")
    configs = ["--config=lightning_configs/shapes.yaml", "--config=lightning_configs/shapes_none.yaml"]
    quick = ["--trainer.accelerator=cpu", "--trainer.fast_dev_run=true", "--data.batch_size=8", "--model.dim=16"]
    found = main(["fit", *configs, "--config", "mine.yaml", *quick, f"--data.shards=[{shards}]"])
    hparams = found.model.hparams
    assert hparams["noise"] == 0.25 and hparams["adversarial"] == 0.2 and hparams["backbone"] == "none"
    assert hparams["lr"] == 0.03 and hparams["weight_decay"] == 0.01 and hparams["depth"] == 0
    assert found.datamodule.mirror == ["time"]


def test_the_best_checkpoint_is_exported_where_asked_to(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "classifier"
    fitted = main(cli("shapes_none.yaml", shards, tmp_path, "--trainer.max_epochs=2", f"--export={folder}"))
    best = load_checkpoint(str(fitted.trainer.checkpoint_callback.best_model_path))
    exported = CompositionClassifier.from_pretrained(folder)
    assert all(torch.equal(best.state_dict()[name], value) for name, value in exported.state_dict().items())
    assert f"wrote {folder}" in capsys.readouterr().out
    nothing = ["--trainer.max_epochs=1", "--trainer.limit_val_batches=0", f"--export={tmp_path / 'none'}"]
    with pytest.raises(SystemExit):
        main(cli("shapes_none.yaml", shards, tmp_path, *nothing))
    assert "error: export: no checkpoint is the best" in capsys.readouterr().err


def test_progress_is_that_of_the_whole_training_and_libraries_are_quiet(shards: Path, tmp_path: Path) -> None:
    """In a process of its own, whose output is no terminal."""
    args = [arg for arg in cli("shapes.yaml", shards, tmp_path, "--trainer.max_epochs=2") if "progress_bar" not in arg]
    backbone = ["--model.backbone=none", "--model.backbone_path=null"]
    done = subprocess.run(
        [sys.executable, "-m", "cvg.train", *args, *backbone],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    told, first, second = done.stdout.splitlines()
    assert told == "160 train records, 0.00328 GB, are kept in memory by every process (data.cache_gb 4)"
    assert re.fullmatch(r"epoch 1/2: train/loss [\d.]+, val/loss .*, [\d:]+ gone, about [\d:]+ left", first)
    assert second.startswith("epoch 2/2: ") and second.endswith("about 00:00 left")
    for line in done.stderr.splitlines():
        assert line.startswith(("Seed set to", "GPU available:")), line


def test_an_interrupt_ends_with_130(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CompositionModule, "training_step", interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:
        main(cli("shapes_none.yaml", shards, tmp_path))
    signal.signal(signal.SIGINT, before)  # Lightning's shutdown ignores further ones
    assert caught.value.code == 130


def test_saved_config_repeats_the_run(trained: CompositionCLI) -> None:
    again = main(["fit", "--config", str(Path(str(trained.trainer.log_dir)) / "config.yaml")])
    a, b = (run.model.state_dict() for run in (trained, again))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_value_that_names_another_follows_it_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = tmp_path / "named.yaml"
    named.write_text("data: {batch_size: 16, eval_batch_size: '${data.batch_size}'}\n")
    shapes = ROOT / "lightning_configs/shapes.yaml"
    given = ["fit", "--config", str(shapes), "--config", str(named), "--data.batch_size", "24", "--print_config"]
    with pytest.raises(SystemExit):
        main(given)
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert (data["batch_size"], data["eval_batch_size"]) == (24, 24)


def test_bad_input_exits_with_one_line(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: {colour: red}\n")
    for args, message in (
        (cli("shapes_none.yaml", tmp_path / "none", tmp_path), "no shards.json there"),
        (
            cli("shapes_none.yaml", shards, tmp_path, "--model.noise=-1"),
            "model.noise -1.0: give a number of at least 0",
        ),
        (["fit", "--config", str(broken)], "does not accept option 'model.colour'"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(args)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert re.search(f"error: .*{message}", error)
        assert "Traceback" not in error


def losses_in(folder: Path) -> list[float]:
    (path,) = folder.glob("*/version_0/metrics.csv")
    with path.open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(shards: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for devices in (1, 2):
        args = cli("shapes_none.yaml", shards, tmp_path / str(devices), "--trainer.max_epochs=2", "--model.dropout=0")
        args += [f"--trainer.devices={devices}", "--model.adversarial=0.1"]
        args += ["--trainer.strategy=ddp"] if devices > 1 else []
        words = [sys.executable, "-m", "cvg.train", *args]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (losses_in(tmp_path / str(devices)) for devices in (1, 2))
    assert len(one) == 10 and one == pytest.approx(two, rel=1e-3)
    a, b = (json.loads(next((tmp_path / d).glob("*/version_0/metrics.json")).read_text()) for d in "12")
    assert a == pytest.approx(b, abs=1e-2)


def test_mirrors_of_labels_that_name_none_say_what_to_set() -> None:
    labels = LabelSet({"action": {"entities": 1, "labels": {"jumping": ["jumping"], "sitting": ["sitting"]}}})
    with pytest.raises(UserError, match=r"mirror: no label .*jumping, sitting.* horizontal mirror.*set data.mirror to"):
        Mirror(["horizontal"], labels, [4, 8, 8])
