"""LoRAs for longer videos: stretched clips are learned, what was encoded is used again, the LoRA can be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.generators import Loading, load_generator
from data_prep.pretrain import longer
from data_prep.pretrain.family import find

TINY: dict[str, Any] = {"clips": 3, "rank": 2, "steps": 2, "tokens": 900, "frames": [17, 25]}


def test_a_lora_is_trained_saved_and_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer.main(out=tmp_path, **TINY)
    folder = tmp_path / "lora"
    file = folder / "pytorch_lora_weights.safetensors"
    assert f"--lora {folder} and a --size of [17, 25] frames" in capsys.readouterr().out
    learned = [tensor for key, tensor in load_file(file).items() if "lora_B" in key]
    assert learned and all(tensor.any() for tensor in learned)  # factors that begin as zero

    plain, changed = (load_generator("shapes-wan", Loading(lora=lora)) for lora in (None, str(folder)))
    size = Size(25, 64, 64)
    noise = plain.initial_latents([torch.Generator().manual_seed(0)], size)
    with torch.no_grad():
        one, other = (g.sample(["a red circle"], noise, 2, 1.0, size) for g in (plain, changed))
    assert one.shape[2] == 7 and not torch.equal(one, other)

    encoded = {path: path.stat().st_mtime_ns for path in tmp_path.glob("clips-*/*")}
    file.unlink()
    longer.main(out=tmp_path, **TINY)
    assert file.exists() and {path: path.stat().st_mtime_ns for path in tmp_path.glob("clips-*/*")} == encoded
    with pytest.raises(UserError, match=r"clips-17: made with generator .*shapes-wan"):
        longer.main(out=tmp_path, generator="shapes-cogvideox", family="cogvideox", **TINY)


def test_wrong_numbers_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"frames \[\]: give at least one"):
        longer.main(out=tmp_path, frames=[])
    with pytest.raises(UserError, match="frames 1 0"):
        longer.main(out=tmp_path, frames=[25, 0])
    with pytest.raises(UserError, match="26"):
        longer.main(out=tmp_path, **TINY | {"frames": [26]})
    assert not list(tmp_path.iterdir())


def test_the_lora_that_ships_knows_longer_clips(tmp_path: Path) -> None:
    """Of noisy latents of clips of 25 frames it tells the velocity better than the network does without it."""
    missed = {}
    for lora in ("shapes-wan-longer", None):
        model = load_generator("shapes-wan", Loading(lora=lora))
        clean, specs = longer.stretched_clips(tmp_path / str(lora), model, 25, 4)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        timestep, alpha, sigma = find("wan").noise_levels(torch.full((4,), 0.4))
        z = alpha.view(-1, 1, 1, 1, 1) * clean + sigma.view(-1, 1, 1, 1, 1) * noise
        with torch.no_grad():
            velocity = model.predict(z, timestep, model.encode_prompts([spec.prompt for spec in specs]))
        missed[lora] = float((velocity - (noise - clean)).pow(2).mean())
    assert missed["shapes-wan-longer"] < 0.8 * missed[None], missed
