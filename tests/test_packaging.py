"""The files that say what to install say the same, and the package holds what it needs."""

import ast
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cvg
from cvg.classifier import CompositionClassifier
from cvg.common import hub
from cvg.generators import load_generator
from cvg.guidance.sampler import GuidedSampler
from cvg.shapes.renderer import FRAMES, SIZE
from cvg.shapes.world import LABELS
from data_prep import manifest, render

ROOT = Path(__file__).parents[1]
PACKAGES = ("cvg", "data_prep", "lightning_configs")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
EXTRA: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
EXTRAS: list[str] = [line for extra in EXTRA.values() for line in extra]


def pins() -> dict[str, str]:
    """Requirement lines of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [line.partition("#")[0].strip() for line in lines]
    return {canonicalize_name(Requirement(line).name): line for line in requirements if line}


def test_conda_and_pip_install_the_same() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert f"python{PROJECT['project']['requires-python']}" in conda
    options = [entry for entry in pip["pip"] if entry.startswith("-")]
    assert [entry for entry in pip["pip"] if entry not in options] == DEPENDENCIES
    assert options == ["--constraint constraints.txt", "--editable ."]


@pytest.mark.parametrize("dependency", DEPENDENCIES + EXTRAS)
def test_every_direct_dependency_is_pinned_within_its_bounds(dependency: str) -> None:
    requirement = Requirement(dependency)
    pin = pins()[canonicalize_name(requirement.name)]
    match = re.fullmatch(r"[\w.-]+==([\w.]+)", pin)
    assert match, f"{pin} is not an exact pin"
    assert requirement.specifier.contains(match.group(1), prereleases=True)


def test_every_pin_is_exact_and_has_no_local_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(pins()) == len([line for line in lines if line.strip() and not line.startswith("#")])
    for pin in pins().values():
        assert re.fullmatch(r"[\w.-]+==[\w.]+", pin)


def test_compromised_releases_are_excluded() -> None:
    lightning = next(Requirement(line) for line in DEPENDENCIES if line.startswith("lightning"))
    assert not any(lightning.specifier.contains(release) for release in ("2.6.2", "2.6.3"))


def test_version_is_that_of_the_package() -> None:
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "cvg.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", cvg.__version__)


def test_every_folder_of_code_is_a_package() -> None:
    for module in modules(*PACKAGES):
        assert (module.parent / "__init__.py").exists(), f"{module.parent} has no __init__.py"


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


def test_shipped_data_is_package_data() -> None:
    patterns: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
    covered = {
        path
        for module in modules(*PACKAGES)
        if module.name == "__init__.py"
        for package in ("*", ".".join(module.parent.relative_to(ROOT).parts))
        for pattern in patterns.get(package, [])
        for path in module.parent.glob(pattern)
    }
    data = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {path for path in data if path.suffix not in (".py", ".pyc")} <= covered


def test_what_is_imported_is_declared() -> None:
    """Each distribution by its own name, not as what another one pulls in."""
    found = packages_distributions()
    optional = [line for name, extra in EXTRA.items() if name not in ("dev", "docs") for line in extra]
    declared = {canonicalize_name(Requirement(line).name) for line in DEPENDENCIES + optional}
    for path in modules(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES):
                assert declared & {canonicalize_name(owner) for owner in found.get(name, [name])}, (
                    f"{path} imports {name}"
                )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(source), str(source)], check=True)
    (built,) = source.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel installs, in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def outside(installed: Path, folder: Path, *command: str) -> str:
    """A command's output, run from the wheel in a folder outside the checkout."""
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_every_file(installed: Path, tmp_path: Path) -> None:
    files = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*") if path.is_file()]
    expected = {path.relative_to(ROOT) for path in files if path.suffix != ".pyc"}
    assert expected <= {path.relative_to(installed) for path in installed.rglob("*")}
    where = outside(installed, tmp_path, "-c", "import cvg; print(cvg.__file__)")
    assert Path(where.strip()) == installed / "cvg/__init__.py"


@pytest.mark.slow
def test_from_the_wheel_to_a_guided_video_in_three_minutes(wheel: Path, tmp_path: Path) -> None:
    """In a new environment and an empty folder, with dependencies that are there and nothing to download."""
    before, folder, python = (
        resource.getrusage(resource.RUSAGE_CHILDREN),
        tmp_path / "empty",
        tmp_path / "venv/bin/python",
    )
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, wheel], check=True)

    alone = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    alone |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True)

    assert Path(run(python, "-c", "import cvg; print(cvg.__file__)").stdout).is_relative_to(packages)
    made = run(python.with_name("cvg"), "sample", "--prompt", "a red circle to the left of a blue square")
    assert made.returncode == 0, made.stdout + made.stderr
    (record,) = (folder / "runs/sample").glob("*.json")
    assert json.loads(record.read_text())["guidance"] == "on"
    assert record.with_suffix(".mp4").stat().st_size > 0 and record.with_suffix(".side-by-side.gif").exists()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: what else the machine does, does not count.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 180 and wheel.stat().st_size < 40e6


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in modules("cvg", "data_prep")
        if '__name__ == "__main__"' in path.read_text()
    ),
)
def test_every_command_starts_outside_the_checkout(command: str, installed: Path, tmp_path: Path) -> None:
    assert "usage: " in outside(installed, tmp_path, "-m", command, "--help")


@pytest.mark.slow
def test_shipped_configurations_are_found_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    given = ["--config", "lightning_configs/shapes.yaml", "--config", "lightning_configs/demo.yaml", "--print_config"]
    training = yaml.safe_load(outside(installed, tmp_path, "-m", "cvg.train", "fit", *given))
    assert training["model"]["backbone_layer"] == 1 and training["data"]["shards"] == ["runs/shards"]
    given = ["--config", "data_prep/configs/wan.yaml", "--data", "rows.jsonl", "--print_config"]
    inversion = yaml.safe_load(outside(installed, tmp_path, "-m", "data_prep.invert", *given))
    assert inversion["generator"].startswith("Wan-AI/")


def test_shipped_weights_are_small_and_safe() -> None:
    files = [path for path in hub.weights("cvg.shapes").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors", ".gif"}


@pytest.mark.parametrize(
    ("name", "backbone", "guided"),
    [
        ("shapes-classifier", "shapes-clip", 2),
        ("shapes-cogvideox-classifier", "shapes-clip", 4),
        ("shapes-wan-more-classifier", None, 13),
    ],
)
def test_shipped_classifiers_fit_shipped_models(name: str, backbone: str | None, guided: int) -> None:
    classifier = CompositionClassifier.from_pretrained(name)
    assert classifier.config.backbone.path == backbone
    sampler = GuidedSampler(load_generator(classifier.config.generator["name"]), classifier)
    assert sampler.size == (FRAMES, SIZE, SIZE) and len(sampler.guided_steps(50)) == guided


@pytest.mark.parametrize("name", ["shapes-wan", "shapes-wan-more", "shapes-cogvideox"])
def test_shipped_generators_load_with_diffusers_alone_and_sample(name: str) -> None:
    pipeline = DiffusionPipeline.from_pretrained(hub.path(name))
    assert {part.dtype for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    pipeline.set_progress_bar_config(disable=True)
    size = {"num_frames": FRAMES, "height": SIZE, "width": SIZE}
    video = pipeline(
        "a red circle moving left", **size, num_inference_steps=2, max_sequence_length=24, output_type="np"
    ).frames
    assert video.shape == (1, FRAMES, SIZE, SIZE, 3) and np.isfinite(video).all() and video.std() > 0


def test_make_names_a_generator_only_where_one_is_given_and_after_any_configuration() -> None:
    def command(*variables: str) -> str:
        given = ["make", "-n", "invert", "DATA=rows.jsonl", "ARGS=--config wan.yaml", *variables]
        # As outside `make test`.
        alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        made = subprocess.run(given, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
        return made.stdout.splitlines()[-1]

    assert "--generator" not in command()
    assert re.search(r'--config wan.yaml --generator "\$GENERATOR"$', command("GENERATOR=mine"))


@pytest.mark.slow
def test_invert_train_and_sample_in_a_row_with_no_path_typed(tmp_path: Path) -> None:
    render.main(tmp_path / "clips", clips=6, kinds=["spatial"])
    rows = manifest.load(tmp_path / "clips", LABELS)
    splits = ["train", "val"] * len(rows)
    rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=False)]
    manifest.write(tmp_path / "clips" / manifest.NAME, rows)

    def make(target: str, *variables: str) -> str:
        alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        alone |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", f"PY={sys.executable}", target]
        done = subprocess.run([*command, *variables], cwd=tmp_path, env=alone, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "--classifier" not in make("-n", "sample", "PROMPT=unused")
    make("invert", "DATA=clips", "ARGS=--steps 4 --at '[1, 2]'")
    assert "wrote runs/classifier" in make("train", "ARGS=--trainer.max_epochs 1 --model.adversarial 0")
    said = make("sample", "PROMPT=a red circle to the left of a blue square", "ARGS=--steps 4")
    assert "--classifier runs/classifier" in said and list((tmp_path / "runs/sample").glob("*.mp4"))
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"shards", "train", "classifier", "sample"}


def test_licence_is_stated_and_shipped() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
