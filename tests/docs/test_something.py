"""The tutorial on Something-Something v2, command by command: a tiny Wan, and rendered clips in the data set's form."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cvg.shards.shards import ShardInfo
from data_prep.pretrain.tiny import make_generator
from tests.data_prep.sources import forms
from tests.docs.test_blocks import ROOT, blocks, commands

PAGE = Path("docs/tutorials/train_on_something.md")
VIDEOS = "20bn-something-something-v2"


def smaller(words: list[str], generator: Path) -> list[str]:
    """A command of the page, for models and videos that a test can do with."""
    text = shlex.join(words).replace("[33, 480, 832]", "[13, 64, 64]").replace("--fps 12", "--fps 8")
    text = text.replace(":google/owlv2-base-patch16-ensemble", "").replace("--device cuda", "")
    text = text.replace("--dtype bfloat16", "").replace("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", str(generator))
    text = text.replace(" lightning_configs/", f" {ROOT}/lightning_configs/")
    text = text.replace(" data_prep/configs/", f" {ROOT}/data_prep/configs/")
    # Of what wan.yaml says the rest holds; what random weights make of a video is none that could be replayed.
    inverted = f"--generator {generator} --steps 4 --at '[0, 1]' --method noising --layers '[1, 3]' --heads '[0, 2]'"
    more = {
        "invert": f"{inverted} --grid '[4, 8, 8]'",
        "train": "--model.backbone_path shapes-clip --trainer.max_epochs 1 --data.batch_size 8",
        "sample": "--steps 4",
    }
    return [*shlex.split(text), *shlex.split(more.get(words[1], ""))]


def downloaded(folder: Path) -> list[forms.Clip]:
    """Clips, in an archive that comes in parts."""
    (folder / "made" / VIDEOS).mkdir(parents=True)
    made = forms.clips(folder / "made" / VIDEOS, ("motion", "spatial"), 16, suffix=".webm")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(folder / "made" / VIDEOS, VIDEOS)
    data, half = archive.getvalue(), len(archive.getvalue()) // 2
    for number, part in enumerate((data[:half], data[half:])):
        (folder / f"{VIDEOS}-{number:02d}").write_bytes(part)
    return made


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    folder = tmp_path / "something"
    made = downloaded(tmp_path)
    (unpack,) = (block.text for block in blocks(PAGE) if "tar -xz" in block.text)
    subprocess.run(["bash", "-ec", unpack], cwd=tmp_path, check=True)
    lines = forms.something(made)
    # Of the last ones only what is not so.
    for line in lines[-4:]:
        line["template"] = "Pretending to put [something] next to [something]"
        line["placeholders"] = [line["placeholders"][0], "a green box"]
    forms.write_json(folder / "labels" / "train.json", [line for i, line in enumerate(lines) if i % 3])
    forms.write_json(folder / "labels" / "validation.json", lines[::3])
    typed = [words for block in blocks(PAGE) if block.language == "bash" for words in commands(block.text)]
    prompt = typed[-1][typed[-1].index("--prompt") + 1]
    make_generator(
        tmp_path / "wan",
        sorted({word for text in [prompt, *(line["label"] for line in lines)] for word in text.split()}),
    )
    assert [words[1] for words in typed] == ["collect", "label", "label", "invert", "invert", "train", "sample"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for words in typed:
        command = [sys.executable, "-m", "cvg", *smaller(words, tmp_path / "wan")[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        # Of what is not so the judge can believe nothing at all, which is told and leaves no file.
        expected = (0, 1) if "believed.jsonl" in shlex.join(words) else (0,)
        assert done.returncode in expected, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    runs = tmp_path / "runs" / "something"
    negatives = (runs / "manifest.negatives.jsonl").read_text().splitlines()
    assert [json.loads(line)["relations"][0]["label"] for line in negatives] == ["next to"] * 4
    info = ShardInfo.load(runs / "shards")
    assert info.licences == {"research only": {"something-something-v2": sum(map(info.count, info.counts))}}
    assert "| research only | something-something-v2 |" in (runs / "classifier" / "README.md").read_text()
    assert list((runs / "sample").glob("*.side-by-side.mp4"))
