"""Stores a trained folder in float16, half its size: what ships.

python -m data_prep.pretrain.store --folder runs/pretrain/shapes-clip --out cvg/shapes/weights/shapes-clip
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cvg.common.cli import run
from cvg.common.errors import DataError
from cvg.common.files import atomic


def main(folder: Path, out: Path) -> None:
    """Copy a model's folder, its float32 weights as float16; files of OUT that it does not have stay (its card).

    Args:
        folder: a model or pipeline folder, as training wrote it.
        out: folder to write.

    Raises:
        DataError: no weights there, or a weight that float16 cannot hold.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not any(path.suffix == ".safetensors" for path in files):
        raise DataError(f"folder {folder}: no .safetensors in it; give a folder that training wrote")
    before = after = 0
    for path in files:
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as temporary:
            if path.suffix == ".safetensors":
                tensors = {name: t.half() if t.dtype == torch.float32 else t for name, t in load_file(path).items()}
                if infinite := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
                    raise DataError(f"{path}: {infinite[0]} does not fit into float16; ship it as it is")
                save_file(tensors, temporary, metadata={"format": "pt"})
            else:
                shutil.copyfile(path, temporary)
        before, after = before + path.stat().st_size, after + target.stat().st_size
    print(f"wrote {out}: {after / 1e6:.1f} MB, of {before / 1e6:.1f}")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.store")
