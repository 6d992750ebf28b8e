"""``python -m data_prep.probe_rules``: which layers and heads rules read, from prompts alone.

Rules (``--classifier rules``) need no training and no data, and neither does this: the prompts' videos are sampled
plainly up to a late step, and the maps of the early ones are compared with where the late ones say the entities are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import PromptError, SettingsError, require
from cvg.common.files import require_writable, write_json
from cvg.common.sizes import Grid, Size
from cvg.composition import Composition, LabelSet
from cvg.composition.asking import read_prompts, understand
from cvg.diffusion.trajectory import nearest_steps
from cvg.generators import Generator, Loading, load_generator
from cvg.grounding.maps import resample
from cvg.guidance.config import RULES
from cvg.guidance.rules import Rules
from cvg.probing.foresight import Foresight, Foretold, Tapped, choose_taps
from data_prep.inversion.recording import taps
from data_prep.options import write_yaml

GRID = Grid(8, 16, 16)
"""Latent frames, rows and columns that maps are averaged to, at most."""
LATE = 0.6
"""Share of the steps after which the maps tell where entities are."""


class _Enough(Exception):
    """Ends a sampling whose later steps are not needed."""


@torch.no_grad()
def maps_at(
    generator: Generator,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    at: Sequence[int],
    layers: Sequence[int],
    heads: Sequence[int],
    steps: int,
    guidance_scale: float | None,
    size: Size,
) -> Tensor:
    """Entity maps at some steps of plain videos, which are sampled no further than to the last of them.

    Args:
        generator: the generator.
        compositions: what the prompts ask for.
        seeds: of each video's noise.
        at: denoising steps, ascending.
        layers: tapped layers.
        heads: tapped heads.
        steps: denoising steps of a whole video.
        guidance_scale: of classifier-free guidance; the family's default when None.
        size: of the videos.

    Returns:
        float16 (S, V, L, A, E, F, H, W), at most :data:`GRID`.
    """
    kept: list[Tensor] = []
    timesteps, conditioning = generator.schedule(steps, size).timesteps, generator.encode(compositions)

    def look(step: int, z: Tensor) -> Tensor:
        if step in at:
            maps = generator.entity_maps(z.float(), timesteps[step], conditioning, layers, heads)
            grid = Grid(*(min(most, side) for most, side in zip(GRID, maps.shape[-3:], strict=True)))
            kept.append(resample(maps, grid).half().cpu())
        if step == at[-1]:
            raise _Enough
        return z

    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    with suppress(_Enough):
        z = generator.initial_latents(noise, size)
        prompts = [composition.prompt for composition in compositions]
        generator.sample(prompts, z, steps, guidance_scale, size, look, noise)
    return torch.stack(kept)


def main(
    prompts_file: Path,
    generator: str = "shapes-wan",
    size: Size = Size(13, 64, 64),
    out: Path = Path("runs/probe-rules"),
    labels: str = "world",
    steps: int = 50,
    guidance_scale: float | None = None,
    layers: list[int] | None = None,
    heads: list[int] | None = None,
    batch_size: int = 4,
    seed: int = 0,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> Tapped:
    """Choose the layers and heads that rules read, and write them as options of sampling and evaluation.

    OUT/rules.yaml is for ``cvg sample --config`` and ``cvg evaluate --config``, OUT/rules.json has all figures.

    Args:
        prompts_file: prompts whose entities are followed: one a line (.txt), or with entities and labels by hand
            (.jsonl, .csv). Those without a relation are left out.
        generator: pipeline folder, hub id, or shipped name.
        size: frames, height, width of its videos.
        out: folder to write.
        labels: label set that the prompts are read with: a YAML file, or a shipped one.
        steps: denoising steps of a whole video; as far as to 0.6 of them is sampled.
        guidance_scale: of classifier-free guidance; the pipeline's default when left out.
        layers: layers to choose from; all when left out.
        heads: heads to choose from; all when left out.
        batch_size: videos at a time.
        seed: of the first prompt's noise; the next have the next ones.
        loading: where and how the generator is computed.
    """
    require(1, steps=steps, batch_size=batch_size, **Size(*size)._asdict())
    require(0, seed=seed)
    require_writable(out / "rules.yaml", out / "rules.json")
    label_set, size = LabelSet.load(labels), Size(*size)
    compositions = _readable(prompts_file, label_set)
    frozen = load_generator(generator, loading)
    rules, (from_layers, from_heads) = Rules.of(frozen, label_set, size), taps(frozen, layers, heads)
    at = _steps(frozen, rules.config.sigmas, steps, size)
    parts = []
    for first in range(0, len(compositions), batch_size):
        part = compositions[first : first + batch_size]
        seeds = range(seed + first, seed + first + len(part))
        parts.append(maps_at(frozen, part, seeds, at, from_layers, from_heads, steps, guidance_scale, size))
    entities = max(part.shape[4] for part in parts)
    maps_SVLAEFHW = torch.cat([_padded(part, entities) for part in parts], dim=1).float()
    present_VE = torch.tensor([[e < len(each.entities) for e in range(entities)] for each in compositions])
    default = [from_layers.index(layer) for layer in rules.config.layers if layer in from_layers] or [0]
    found = choose_taps(Foresight(maps_SVLAEFHW[:-1], maps_SVLAEFHW[-1], present_VE), default)
    chosen = {
        "layers": [from_layers[i] for i in found.layers],
        "heads": [from_heads[i] for i in found.heads],
    }
    probed = {"at": at[:-1], "late": at[-1], "layers": from_layers, "heads": from_heads, "steps": steps}
    figures = {"prompts": len(compositions), "chosen": chosen, "probed": probed, "why": asdict(found)}
    write_json(out / "rules.json", {"schema": 1, "generator": frozen.identity()} | figures)
    named = {"classifier": RULES, "generator": generator if hub.is_shipped_name(generator) else _whole(generator)}
    options = named | {"size": list(size), "guiding": chosen}
    write_yaml(out / "rules.yaml", f"cvg sample --config {out / 'rules.yaml'} --prompt ...", options)
    print(f"layers {chosen['layers']}, heads {chosen['heads']}: {out / 'rules.yaml'}")
    print(f"where entities will be, foretold by these: {_told(found.chosen)}; by default: {_told(found.default)}")
    return found


def _readable(path: Path, labels: LabelSet) -> list[Composition]:
    """What the prompts of a file ask for, those left out that ask for nothing."""
    lines = read_prompts(path)
    compositions = [asked.composition for asked in (understand(line, labels) for line in lines)]
    found = [composition for composition in compositions if composition is not None]
    if not found:
        raise PromptError(f"prompts {path}: none of {len(lines)} states a relation that can be read; give others")
    return found


def _steps(generator: Generator, sigmas: Sequence[float], steps: int, size: Size) -> list[int]:
    """The denoising steps that rules guide, and a late one."""
    levels = generator.schedule(steps, size).levels[:-1]
    early = [step for step in nearest_steps(levels, sigmas) if step is not None]
    late = round(LATE * steps)
    if len(set(early)) < len(sigmas) or late <= max(early):
        raise SettingsError(f"{steps} steps: too few to tell early from late ones; use 12 or more")
    return [*sorted(early), late]


def _padded(maps_SVLAEFHW: Tensor, entities: int) -> Tensor:
    missing = entities - maps_SVLAEFHW.shape[4]
    return torch.nn.functional.pad(maps_SVLAEFHW, (0, 0, 0, 0, 0, 0, 0, missing))


def _whole(generator: str) -> str:
    """A folder by its absolute path, a Hub id as it is."""
    return str(Path(generator).absolute()) if Path(generator).is_dir() else generator


def _told(found: Foretold) -> str:
    return f"{found.score:.2f} (place {found.place:.2f}, motion {found.motion:.2f})"


if __name__ == "__main__":
    run(main, prog="python -m data_prep.probe_rules")
