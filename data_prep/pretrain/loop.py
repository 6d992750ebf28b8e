"""The training loop of the small models: resumable, logged, with an exponential moving average of the weights."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm
from typing_extensions import override

from cvg.common.files import atomic

LossFunction = Callable[[int], Mapping[str, Tensor]]
"""Maps the step's index (the seed of its batch) to named losses; ``"loss"`` is minimised, the rest is logged."""


def schedule(step: int, steps: int, warmup: int, decay: float = 0.3) -> float:
    """Learning-rate factor: linear warm-up, constant, linear decay to zero over the last ``decay`` of the steps."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average whose decay ramps up as (1 + n) / (10 + n), so that the first steps are forgotten."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        rate = min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, 1 - rate)

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
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("momentum", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(average, group["momentum"]).flatten(1))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = 0.2 * max(update.shape) ** 0.5  # steps of the root mean square that AdamW's have
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T, by Newton-Schulz iterations."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide.bfloat16() if wide.is_cuda else wide
    wide = wide / wide.norm().clamp_min(1e-7)
    for _ in range(iterations):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), wide, beta=3.4445)
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).to(matrix)


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
    loss_function: LossFunction,
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
) -> nn.Module:
    """Minimise ``loss_function`` over ``model``'s trainable parameters and return the averaged model.

    A run that was stopped goes on from ``out/state.pt``, written every ``save_every`` steps; the curve is
    ``out/log.csv``. The batch of a step depends on its index alone, so a resumed run sees the same data.

    Args:
        model: what is trained; on its device already.
        loss_function: see :data:`LossFunction`.
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
    """
    out.mkdir(parents=True, exist_ok=True)
    average = AveragedModel(model, avg_fn=moving_average(ema), use_buffers=False)
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
    totals: dict[str, float] = {}
    began = time.monotonic()
    bar = tqdm(range(start, end), initial=start, total=steps, desc=out.name, mininterval=5)
    for step in bar:
        factor = schedule(step, steps, warmup)
        for group, rate in zip((g for opt in opts for g in opt.param_groups), base_rates, strict=True):
            group["lr"] = rate * factor
        losses = loss_function(step)
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        for opt in opts:
            opt.step()
        average.update_parameters(model)
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach())
        if (step + 1) % 50 == 0:
            row = {name: value / 50 for name, value in totals.items()}
            _log(out / "log.csv", {"step": step + 1, "seconds": round(time.monotonic() - began, 1), **row})
            bar.set_postfix({name: f"{value:.4f}" for name, value in row.items()})
            totals = {}
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
