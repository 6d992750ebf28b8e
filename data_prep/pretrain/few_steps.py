"""A LoRA with which a generator samples in a few steps, without classifier-free guidance.

The pipeline draws videos as it is, in many guided steps; then its network learns to go from the noise of each to its
latents in a straight line: rectified flow, from noise and result that belong together (Liu et al., arXiv 2209.03003).
On straight lines a few steps are as good as many, and what classifier-free guidance does is in the videos.

    python -m data_prep.pretrain.few_steps --out runs/few-steps
    python -m data_prep.pretrain.store --folder runs/few-steps/lora --out cvg/shapes/weights/shapes-wan-4-steps
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import atomic
from cvg.common.sizes import Size
from cvg.diffusion.schedule import Schedule
from cvg.generators import Generator, Loading, load_generator
from cvg.generators.changes import set_scheduler
from cvg.shapes.renderer import FRAMES, SIZE
from cvg.shapes.world import KINDS, sample_spec
from data_prep.made_of import require_same
from data_prep.pretrain.lora import add_lora, save_lora, train_lora

AT_ONCE = 32
"""Videos that are sampled together."""
VIDEO = Size(FRAMES, SIZE, SIZE)


def pairs(out: Path, generator: Generator, count: int, steps: int) -> tuple[Tensor, Tensor, list[str]]:
    """Initial noise and final latents, (N, C, F, H, W) each, of videos that the pipeline samples; and their prompts.

    The latents are kept in OUT/pairs; what is there is used again.

    Args:
        out: working folder.
        generator: samples them, at its own guidance scale.
        count: videos, of ``KINDS`` in turn.
        steps: denoising steps of each.

    Raises:
        SettingsError: what OUT has was sampled otherwise.
    """
    folder = out / "pairs"
    require_same(folder, {"steps": steps, "generator": generator.identity()})
    noise, final, prompts = [], [], []
    for first in tqdm(range(0, count, AT_ONCE), desc="sample videos", mininterval=5):
        indices = range(first, min(first + AT_ONCE, count))
        asked = [sample_spec(np.random.default_rng([i, 9]), KINDS[i % len(KINDS)]).prompt for i in indices]
        drawn = generator.initial_latents([torch.Generator().manual_seed(i) for i in indices], VIDEO)
        path = folder / f"{first:06d}-{len(indices)}.safetensors"
        if not path.exists():
            with torch.no_grad():
                latents = generator.sample(asked, drawn, steps, None, VIDEO)
            with atomic(path) as temporary:
                save_file({"latents": latents.cpu().half().contiguous()}, temporary)
        noise.append(drawn.cpu())
        final.append(load_file(path)["latents"])
        prompts += asked
    return torch.cat(noise), torch.cat(final), prompts


def on_the_line(clean: Tensor, noise: Tensor, schedule: Schedule, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the lines from noise to clean latents, and what a network that knows the line returns there.

    Args:
        clean: (B, C, F, H, W).
        noise: where each line begins, (B, C, F, H, W).
        schedule: of the few steps.
        steps: the step of each point, (B,).

    Raises:
        SettingsError: the network returns neither a velocity nor v.
    """
    alpha, sigma = (level.float()[steps].view(-1, 1, 1, 1, 1) for level in (schedule.alphas, schedule.sigmas))
    wanted = {"flow": noise - clean, "v": alpha * noise - sigma * clean}
    if schedule.prediction not in wanted:
        raise SettingsError(f"few steps: the network predicts {schedule.prediction}; only a velocity or v is learned")
    return alpha * clean + sigma * noise, wanted[schedule.prediction]


def main(
    out: Path = Path("runs/few-steps"),
    generator: str = "shapes-wan",
    few: int = 4,
    flow_shift: float | None = 5.0,
    videos: int = 2048,
    teacher_steps: int = 25,
    rank: int = 32,
    steps: int = 1500,
    batch_size: int = 32,
    lr: float = 2e-3,
    device: str = "cpu",
    workers: int = 0,
) -> None:
    """Sample videos, train a LoRA on their straight lines, and save it in OUT/lora.

    A run that was stopped goes on from the videos in OUT/pairs and from the state in OUT/few_steps.training.

    Args:
        out: working folder.
        generator: shipped name, folder or Hub id of the pipeline that draws the videos and gets the LoRA.
        few: denoising steps that are learned.
        flow_shift: of these steps' noise levels, to be given again when sampling; the scheduler's own when null.
        videos: sampled videos.
        teacher_steps: denoising steps of each of these, with classifier-free guidance.
        rank: of the LoRA.
        steps: optimiser steps.
        batch_size: videos per step.
        lr: peak learning rate of AdamW.
        device: torch device.
        workers: processes that draw batches.

    Raises:
        UserError: a number is too small, or OUT has videos or a training of other settings.
    """
    require(1, few=few, videos=videos, teacher_steps=teacher_steps, rank=rank, steps=steps, batch_size=batch_size)
    torch.manual_seed(0)
    model = load_generator(generator, Loading(device=device))
    require_same(out / "few_steps.training", {"rank": rank, "few": few, "flow_shift": flow_shift})
    noise_NCFHW, clean_NCFHW, prompts = pairs(out, model, videos, teacher_steps)
    set_scheduler(model.pipeline, Loading(flow_shift=flow_shift), generator)
    schedule = model.schedule(few, VIDEO)
    transformer = add_lora(model.network, rank)

    def draw(index: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(index)
        chosen = torch.randint(len(prompts), (batch_size,), generator=random)
        return {"chosen": chosen, "at": torch.randint(few, (batch_size,), generator=random)}

    def losses(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        chosen, at = batch["chosen"], batch["at"]
        with torch.no_grad():
            states = model.encode_prompts([prompts[i] for i in chosen.tolist()])
        noisy, wanted = on_the_line(clean_NCFHW[chosen].float(), noise_NCFHW[chosen], schedule, at)
        timestep = schedule.timesteps.cpu()[at].to(model.device)
        error = (model.predict(noisy.to(model.device), timestep, states) - wanted.to(model.device)).pow(2)
        each = error.mean((1, 2, 3, 4))
        first = (at == 0).to(each)
        return {"loss": each.mean(), "first": (each * first).sum() / first.sum().clamp(min=1)}

    average = train_lora(transformer, draw, losses, out / "few_steps.training", steps, lr, workers)
    lora = out / "lora"
    save_lora(average, model.pipeline, lora)
    shift = "" if flow_shift is None else f" --flow_shift {flow_shift:g}"
    print(f"wrote {lora}; sample with --lora {lora}{shift} --steps {few} --guidance_scale 1")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.few_steps")
