"""The training loop of the small models: resumable, logged, with an exponential moving average of the weights.

Batches are drawn in processes of their own where asked for, so that a GPU does not wait for the renderer; the batch of
a step depends on its index alone, whoever draws it.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from typing_extensions import override

from cvg.common.errors import SettingsError, require
from cvg.common.files import atomic

Batch = TypeVar("Batch")


class _Draws(Dataset[Any]):
    def __init__(self, draw: Callable[[int], Any]) -> None:
        self.draw = draw

    @override
    def __getitem__(self, index: int) -> Any:
        return self.draw(index)


def drawn(draw: Callable[[int], Batch], indices: range, workers: int) -> Iterable[Batch]:
    """``draw(index)`` for each index, in order.

    Args:
        draw: made on the CPU, from the index alone.
        indices: of the batches.
        workers: processes that draw ahead; 0 draws here.

    Raises:
        SettingsError: fewer workers than none.
    """
    require(0, workers=workers)
    return DataLoader(
        _Draws(draw),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # A forked process cannot use CUDA, and needs not; a spawned one would have to be sent the clips.
        multiprocessing_context="fork" if workers else None,
    )


def schedule(done: float, warmup: float, decay: float = 0.3) -> float:
    """Learning-rate factor: linear warm-up, constant, linear decay to zero over the last ``decay`` of the training.

    Args:
        done: share of the training that is behind us.
        warmup: share of the warm-up that is, this step included.
        decay: share of the training in which the rate falls.
    """
    return min(1.0, warmup, (1 - done) / decay)


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose decay ramps up as (1 + n) / (10 + n), so that the first steps are forgotten.

    Made for ``AveragedModel(multi_avg_fn=...)``: it takes all averaged tensors, all current ones, and n.
    """

    def average(averaged: Any, current: Any, count: Any) -> None:
        rate = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - rate)

    return average


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices and for convolution kernels, as matrices of (output, input x kernel).

    As ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, which takes neither kernels nor float32: it
    orthogonalises in bfloat16, which most CPUs emulate, at twenty times the cost.
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 1e-3
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @override
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[Any, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for (rows, columns), parameters in alike.items():  # at once: a GPU's time would go into starting kernels
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                averages = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                updates = torch._foreach_lerp(gradients, averages, group["momentum"])
                update = orthogonal(torch.stack([each.flatten(1) for each in updates]))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                scale = 0.2 * max(rows, columns) ** 0.5  # steps of the root mean square that AdamW's have
                moves = [each.view_as(p) for each, p in zip(update, parameters, strict=True)]
                torch._foreach_add_(parameters, moves, alpha=-group["lr"] * scale)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """About U V^T of the singular value decompositions U S V^T of matrices (N, R, C), by Newton-Schulz iterations."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    wide = wide.bfloat16() if wide.is_cuda else wide
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315), wide, beta=3.4445)
    return (wide.mT if tall else wide).to(matrices)


def optimizers(model: nn.Module, lr: float, muon_lr: float, hidden: str) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and kernels, AdamW for all the rest (vectors, embeddings, first and last layers).

    Args:
        model: whose trainable parameters are taken.
        lr: of AdamW.
        muon_lr: of Muon.
        hidden: the names of hidden layers contain this.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_hidden = parameter.ndim >= 2 and hidden in name and min(parameter.flatten(1).shape) > 1
            (matrices if is_hidden else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=1e-3)
    return [adam, Muon(matrices, muon_lr)] if matrices else [adam]


def train(
    model: nn.Module,
    draw: Callable[[int], Batch],
    losses_of: Callable[[Batch], Mapping[str, Tensor]],
    out: Path,
    steps: int,
    lr: float,
    muon_lr: float,
    hidden: str,
    warmup: int = 100,
    ema: float = 0.999,
    clip: float = 1.0,
    save_every: int = 250,
    stop_at: int | None = None,
    minutes: float | None = None,
    workers: int = 0,
) -> nn.Module:
    """Train ``model`` and return the averaged model.

    A run that was stopped goes on from ``out/state.pt``, written every ``save_every`` steps; the curve is
    ``out/log.csv``. The batch of a step depends on its index alone, so a resumed run sees the same data.

    Args:
        model: what is trained; on its device already.
        draw: makes the batch of a step, on the CPU, from the step's index.
        losses_of: named losses of a batch; ``"loss"`` is minimised, the rest is logged.
        out: working folder of this training.
        steps: optimiser steps in all.
        lr: peak learning rate of AdamW.
        muon_lr: peak learning rate of Muon.
        hidden: see :func:`optimizers`.
        warmup: warm-up steps.
        ema: decay of the weight average (it ramps up from zero, so that early steps are forgotten).
        clip: gradient norm limit.
        save_every: steps between saved states.
        stop_at: stop (and save) at this step, as if interrupted.
        minutes: end by then, with fewer steps if need be: the learning rate falls with whichever of steps and minutes
            is used up first. They count from this call: a run that goes on has as many again. No limit when None.
        workers: processes that draw batches; 0 draws them here.

    Raises:
        SettingsError: no time, or fewer workers than none.
    """
    require(0, workers=workers)
    if minutes is not None and not minutes > 0:
        raise SettingsError(f"minutes {minutes}: give more than 0")
    out.mkdir(parents=True, exist_ok=True)
    average = AveragedModel(model, multi_avg_fn=moving_average(ema), use_buffers=False)
    opts = optimizers(model, lr, muon_lr, hidden)
    base_rates = [group["lr"] for opt in opts for group in opt.param_groups]
    start, state_path = 0, out / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for opt, saved in zip(opts, state["optimizers"], strict=True):
            opt.load_state_dict(saved)
        start = state["step"]

    def save(step: int) -> None:
        with atomic(state_path) as temporary:
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizers": [opt.state_dict() for opt in opts],
                    "step": step,
                },
                temporary,
            )

    parameters = [p for p in model.parameters() if p.requires_grad]
    end = min(steps, stop_at or steps)
    totals: dict[str, Any] = defaultdict(float)
    began = time.monotonic()
    bar = tqdm(drawn(draw, range(start, end), workers), initial=start, total=steps, desc=out.name, mininterval=5)
    for step, batch in enumerate(bar, start):
        done = step / steps
        if minutes is not None:
            done = max(done, (time.monotonic() - began) / (60 * minutes))
        if done >= 1:
            save(step)
            break
        factor = schedule(done, (step + 1) / warmup)
        for group, rate in zip((g for opt in opts for g in opt.param_groups), base_rates, strict=True):
            group["lr"] = rate * factor
        losses = losses_of(batch)
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        for opt in opts:
            opt.step()
        average.update_parameters(model)
        for name, value in losses.items():
            totals[name] += value.detach()
        if (step + 1) % 50 == 0:
            row = {name: float(value) / 50 for name, value in totals.items()}
            _log(out / "log.csv", {"step": step + 1, "seconds": round(time.monotonic() - began, 1), **row})
            bar.set_postfix({name: f"{value:.4f}" for name, value in row.items()})
            totals.clear()
        if (step + 1) % save_every == 0 or step + 1 == end:
            save(step + 1)
    result: nn.Module = average.module
    return result


def _log(path: Path, row: Mapping[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
