"""Training the composition classifier with Lightning. The generator is not loaded: records are all it needs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from cvg.classifier.anchors import label_anchors, part_wordings
from cvg.classifier.competition import Competition
from cvg.classifier.config import AggregatorSettings, ClassifierConfig, LinearSettings, SamplingSettings
from cvg.classifier.head import TextHead
from cvg.classifier.model import CompositionClassifier
from cvg.classifier.smoothing import evidence_mask, worst_case
from cvg.common.errors import SettingsError
from cvg.common.files import write_json
from cvg.shards.stream import Batch
from cvg.training import settings
from cvg.training.datamodule import CompositionDataModule
from cvg.training.metrics import SIDES, StageMetrics, plot_confusion
from cvg.training.optimizer import adamw, warmup_cosine
from cvg.training.perturbation import draw
from cvg.training.resuming import check_classifier, check_left, check_optimizer, check_options


class CompositionModule(L.LightningModule):
    """L = CE(C(phi(p+)), y) + CE(C(phi(p-)), y), for the aggregator, the absent volume and the head alone.

    What the shards determine (labels, layers, heads, sigmas, grids) comes from the data module.

    Args:
        backbone: ``none`` (the head sees the volume), ``convolution`` (a small network that learns with the head) or
            ``vlm`` (a frozen vision model watches it).
        backbone_path: for ``vlm``: a model's folder, a Hub id, or ``shapes-clip``. Its own config.json says what it is.
            For ``none`` with an anchored head: the model whose text tower makes the anchors, and nothing else.
        backbone_layer: for ``vlm``: which hidden state to read; -1 is the last.
        backbone_pool: for ``vlm``: side of the squares of patches that are averaged; 1 keeps all.
        backbone_options: for ``vlm``: how it is shown the volume, its precision, what of it is read;
            `docs/backbones.md` lists them.
        head: ``linear`` (the paper's W, b), ``anchored`` (in the backbone's text) or ``joint`` (the backbone's own
            comparison of video and text); docs/new_labels.md.
        head_rank: for ``anchored``: rank of the read-out into the joint text space.
        head_tied: not for ``linear``: anchors stay what the text tower makes of the labels; if not, they are trained.
        head_captions: not for ``linear``: what the text tower is shown of a label of one entity, and of one of two.
        head_without: not for ``linear``: wordings that the anchors are made without. Evaluation also reports the
            accuracy with anchors made of them instead (``reworded``), on the labels that have such.
        volume_size: [height, width] of the volume; that of the stored maps when not given.
        dim: width of the aggregation Transformer.
        depth: its blocks; 0 leaves the learned weighted mean of the maps alone.
        attention_heads: heads of its attention.
        dropout: in its blocks.
        positive_only: leave the p- term out of the loss (an ablation: it shows what dual inversion is for).
        group_softmax: let labels compete within their own group only, in loss and metrics, as they do in guidance.
        noise: deviation of smooth noise added to the volume in training, in units of its deviation.
        adversarial: root mean square of a worst-case perturbation of the volume added in training, in the same units.
        adversarial_without: groups of labels whose records are spared it, where what tells them is smaller than it.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW, on matrices.
        warmup: share of the training steps in which the learning rate rises; a cosine to zero follows.
        warm_start: folder of an exported classifier whose weights training starts from.
    """

    def __init__(
        self,
        backbone: Literal["none", "convolution", "vlm"] = "none",
        backbone_path: str | None = None,
        backbone_layer: int = -1,
        backbone_pool: int = 1,
        backbone_options: dict[str, Any] | None = None,
        head: Literal["linear", "anchored", "joint"] = "linear",
        head_rank: int = 16,
        head_tied: bool = True,
        head_captions: list[str] | None = None,
        head_without: list[str] | None = None,
        volume_size: list[int] | None = None,
        dim: int = 64,
        depth: int = 2,
        attention_heads: int = 4,
        dropout: float = 0.1,
        positive_only: bool = False,
        group_softmax: bool = True,
        noise: float = 0.0,
        adversarial: float = 0.0,
        adversarial_without: list[str] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        warm_start: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.sides = SIDES[:1] if positive_only else SIDES
        self.aggregator = AggregatorSettings(dim=dim, depth=depth, attention_heads=attention_heads, dropout=dropout)
        self.backbone, self.head = settings.backbone_settings(self.hparams), settings.head_settings(self.hparams)
        if volume_size is not None and (len(volume_size) != 2 or min(volume_size) < 1):
            raise SettingsError(f"model.volume_size {volume_size}: expected [height, width]")
        settings.check_numbers(lr=lr, weight_decay=weight_decay, warmup=warmup, noise=noise, adversarial=adversarial)
        self.classifier: CompositionClassifier
        self.gentle: Tensor

    # Building

    @property
    def data(self) -> CompositionDataModule:
        """The data module in use."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, CompositionDataModule), "train with a CompositionDataModule"
        return data

    def config(self) -> ClassifierConfig:
        """The classifier that these options and the data module's shards describe."""
        info = self.data.info
        return ClassifierConfig(
            labels=info.labels,
            generator=info.generator,
            layers=info.layers,
            heads=info.heads,
            sigmas=info.sigmas,
            grid=info.grid,
            token_grid=info.token_grid,
            slots=info.slots,
            volume_grid=[info.grid[0], *(self.hparams["volume_size"] or info.grid[1:])],
            backbone=self.backbone,
            aggregator=self.aggregator,
            noise=self.hparams["noise"],
            head=self.head,
            seen=self.data.seen,
            licences=self.data.licences,
            levels=info.levels,
            sampling=SamplingSettings(guidance_scale=info.guidance_scale),
        )

    def configure_model(self) -> None:
        """Build classifier, loss and metrics, once the shards are known."""
        if "classifier" in self._modules:
            return
        self.classifier = CompositionClassifier(self.config())
        if not self.trainer.ckpt_path:
            if not isinstance(self.head, LinearSettings):
                self.classifier.anchor_labels()
            if self.hparams["warm_start"]:
                settings.start_from(self.classifier, self.hparams["warm_start"])
        self.configure_losses()
        self.configure_metrics()

    def configure_losses(self) -> None:
        """Build what labels compete in, for the loss, and say which are spared the worst case."""
        hold_out = self.data.hold_out or []
        settings.check_hold_out(self.head, hold_out)
        self.compete = Competition(self.classifier.labels, self.hparams["group_softmax"], hold_out)
        spared, adversarial = self.hparams["adversarial_without"] or [], self.hparams["adversarial"]
        gentle = settings.left_alone(self.classifier.labels, spared, adversarial)
        self.register_buffer("gentle", torch.tensor(gentle, dtype=torch.long), persistent=False)

    def configure_metrics(self) -> None:
        """Build the metrics of validation and test, and the anchors that some of them need besides the head's."""
        labels = self.classifier.labels
        self.reworded: list[int] = []
        if not isinstance(self.head, LinearSettings):
            _, reworded = part_wordings(labels.labels, self.head.without)
            self.reworded = [labels.index(label.name) for label in reworded]
            if reworded:
                anchor_RE = label_anchors(self.classifier.backbone, reworded, self.head.captions)
                self.register_buffer("reworded_RE", anchor_RE, persistent=False)
        steps, hold_out = len(self.classifier.config.sigmas), self.data.hold_out or []
        self.stages = nn.ModuleDict(
            {stage: StageMetrics(labels, steps, hold_out, bool(self.reworded)) for stage in ("val", "test")}
        )

    # Training

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout's random numbers, too, are a function of the step, so that a resumed run draws the same."""
        torch.manual_seed(random.Random(f"{self.data.seed}/{self.global_step}/{self.global_rank}").getrandbits(63))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The dual loss on perturbed volumes of random step subsets."""
        steps_XBS, noise = self._draw(batch)
        with torch.autocast(self.device.type, enabled=False):  # on CPUs it knows no float16, which maps are stored in
            maps = torch.cat([batch[side] for side in self.sides])
        present = torch.cat([batch["present"]] * len(self.sides))
        labels = torch.cat([batch["label"]] * len(self.sides))
        steps = steps_XBS.flatten(0, 1)
        phi = self.classifier.volume(maps, present, steps)
        mask = evidence_mask(present, steps)
        if noise is not None:
            phi = phi + noise.flatten(0, 1).to(phi) * mask

        def losses(phi: Tensor) -> Tensor:
            return self.compete.loss(self.classifier.classify(phi, present, steps), labels)

        if size := self.hparams["adversarial"]:
            size_B = size * (~torch.isin(labels, self.gentle)).to(phi)
            phi = phi + worst_case(phi, losses, mask, size_B)
        loss = losses(phi).unflatten(0, (len(self.sides), -1)).mean(1).sum()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch["label"]))
        return loss

    def _draw(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Step subsets (X, B, S) and noise (X, B, S, K, F, H, W) of a batch, X the prompts."""
        config, used = self.classifier.config, len(self.sides)
        shape = (len(config.sigmas), config.slots, *config.volume_grid)
        steps_XBS, noise = draw(batch["seed"].tolist(), len(SIDES), shape, self.hparams["noise"])
        return steps_XBS[:used].to(batch["label"].device), noise if noise is None else noise[:used]

    def configure_optimizers(self) -> Any:
        """AdamW on what is trainable, with a warm-up and a cosine per step."""
        optimizer = adamw(self.parameters(), self.hparams["lr"], self.hparams["weight_decay"])
        scheduler = warmup_cosine(optimizer, self.hparams["warmup"], int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Evaluation

    def _evaluate(self, batch: Batch, stage: str) -> None:
        metrics: Any = self.stages[stage]
        valid = batch["valid"]
        present, labels = batch["present"][valid], batch["label"][valid]
        if not len(labels):
            return
        count = len(self.classifier.config.sigmas)
        everything = torch.ones(len(labels), count, dtype=torch.bool, device=labels.device)
        loss = torch.zeros(len(labels), device=labels.device)
        absent_BSD = self.classifier.absent_features(present)
        for side in SIDES:
            phi = self.classifier.volume(batch[side][valid], present, everything)
            features_BSD = self.classifier.features(phi, present)
            logits = self.classifier.head(features_BSD.flatten(1))
            if side in self.sides:
                loss += self.compete.loss(logits, labels).to(loss)
            metrics.update(side, self.compete(logits, labels), labels)
            self._evaluate_reworded(side, features_BSD, labels, metrics)
            for step in range(count):
                alone_BSD = absent_BSD.clone()
                alone_BSD[:, step] = features_BSD[:, step]
                logits = self.compete(self.classifier.head(alone_BSD.flatten(1)), labels)
                metrics.update_step(side, step, logits, labels)
        trained = self.compete.trained_Y[labels]
        if trained.any():
            metrics.loss.update(loss[trained])  # it chooses the checkpoint, in which held-out labels have no say

    def _evaluate_reworded(self, side: str, features_BSD: Tensor, labels_B: Tensor, metrics: Any) -> None:
        index = torch.tensor(self.reworded, dtype=torch.long, device=labels_B.device)
        concerned = torch.isin(labels_B, index)
        if concerned.any():
            head = self.classifier.head
            assert isinstance(head, TextHead) and isinstance(self.reworded_RE, Tensor)
            anchor_YE = head.anchor_YE.index_copy(0, index, self.reworded_RE)
            logits = self.compete(head(features_BSD.flatten(1), anchor_YE), labels_B)
            metrics.update_reworded(side, logits[concerned], labels_B[concerned])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the validation metrics."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the test metrics."""
        self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics; write them to files too."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics; write them to files too."""
        self._report("test")

    def _report(self, stage: str) -> None:
        metrics: Any = self.stages[stage]
        values, confusions = metrics.compute()
        metrics.reset()
        named = {f"{stage}/{name}": value.float() for name, value in values.items()}
        self.log_dict(named, sync_dist=True)  # the same on all ranks already; this only says so to Lightning
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)  # all ranks take part in asking for it
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            write_json(folder / "metrics.json", {name: float(value) for name, value in named.items()})
            fitting = self.trainer.state.fn == "fit"  # the picture takes a while: not after every epoch
            if not fitting or self.trainer.current_epoch + 1 == self.trainer.max_epochs:
                names = [label.name for label in self.classifier.labels.labels]
                titles = {f"{stage}, p+": confusions["positive"], f"{stage}, p-": confusions["negative"]}
                plot_confusion(folder / "confusion.png", titles, names)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the whole classifier config, so that the export needs no shards."""
        checkpoint["classifier"] = self.classifier.config.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise DataError when the checkpoint is of another classifier or training than shards and options describe."""
        if resumed := self.trainer.state.fn == "fit":
            check_options(checkpoint, self.hparams)
            loop = self.trainer.fit_loop.state_dict()
            check_left(checkpoint, loop, self.trainer.max_epochs, self.trainer.max_steps)
        check_classifier(checkpoint, self.classifier.config, self.state_dict())
        if resumed:
            check_optimizer(checkpoint, adamw(self.parameters(), self.hparams["lr"], self.hparams["weight_decay"]))
