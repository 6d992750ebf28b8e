"""The files that say what to install say the same, and the package holds what it needs."""

import os
import re
import subprocess
import tomllib
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

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
DEVELOPMENT: list[str] = PROJECT["project"]["optional-dependencies"]["dev"]


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


@pytest.mark.parametrize("dependency", DEPENDENCIES + DEVELOPMENT)
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
    for package in ("cvg", "data_prep"):
        for module in (ROOT / package).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module.parent} has no __init__.py"


def test_shipped_data_is_package_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["cvg.shapes"]
    folder = ROOT / "cvg/shapes"
    covered = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    data = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in data if path.suffix not in (".py", ".pyc")} <= covered


def test_shipped_weights_are_small_and_safe() -> None:
    files = [path for path in hub.weights("cvg.shapes").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}


@pytest.mark.parametrize("name", ["shapes-classifier", "shapes-cogvideox-classifier"])
def test_shipped_classifiers_fit_shipped_models(name: str) -> None:
    classifier = CompositionClassifier.from_pretrained(name)
    assert classifier.config.backbone["path"] == "shapes-clip"
    sampler = GuidedSampler(load_generator(classifier.config.generator["name"]), classifier)
    assert sampler.size == (FRAMES, SIZE, SIZE) and len(sampler.guided_steps(50)) == 4


@pytest.mark.parametrize("name", ["shapes-wan", "shapes-cogvideox"])
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


def test_licence_is_stated_and_shipped() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
