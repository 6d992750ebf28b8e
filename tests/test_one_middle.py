"""Recording, training and guiding read a generator and a classifier by the same code: they agree bit for bit."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cvg.classifier.competition import group_log_probs
from cvg.composition import LabelSet, contradict
from cvg.generators import wrap_pipeline
from cvg.grounding.slots import slot_maps
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.media.pixels import to_video
from cvg.media.video import read_video, write_video
from data_prep.inversion.latents import Settings, drawn
from data_prep.inversion.recording import make_records
from data_prep.manifest import Row
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

SIZE = (5, 32, 32)


def test_a_record_and_a_live_capture_of_the_same_latents_are_the_same(tmp_path: Path) -> None:
    labels, generator = LabelSet.load("shapes"), wrap_pipeline(tiny_pipeline(), "tiny")
    classifier = tiny_classifier(generator, grid=[2, 4, 4], volume_grid=[2, 4, 4], noise=0.0).eval()
    config = classifier.config
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    relations = (("above", (0, 1)), ("left", (0,)))
    row = Row(
        "clip", tmp_path / "clip.mp4", "a {e0} {r1} {r0} a {e1}", ("red circle", "blue square"), relations,
        wordings=("above", "moving left"),
    )  # fmt: skip
    settings = Settings("noising", STEPS, [0, 1], 0, config.layers, config.heads, list(SIZE), 0.0, 0)
    records = make_records(row, generator, labels, settings)

    rng = random.Random("0:clip")
    positive = row.composition(labels, rng)
    both = [positive, contradict(positive, labels, rng)]
    guide = Guide(generator, classifier, both, replace(GuidanceConfig(), spread=0.0))
    clean = generator.encode_video(to_video(read_video(row.video, *SIZE))[None])
    latents = [z.expand(2, *z.shape[1:]) for z in drawn(settings, row, generator, clean)]
    timesteps = generator.schedule(STEPS, SIZE).timesteps
    present_RK = torch.tensor(guide.relations.present_RK)
    for step, z in enumerate(latents):
        with torch.no_grad():
            maps = guide.maps(z, timesteps[step], range(2), step).of(guide.read)
            live_RLAKFHW = slot_maps(maps, guide.relations.prompt_R, guide.relations.slots_RK)
            stored_RLAKFHW = torch.stack(
                [r.positive_SLAKFHW[step] for r in records] + [r.negative_SLAKFHW[step] for r in records]
            )
            assert torch.equal(live_RLAKFHW.half(), stored_RLAKFHW)
            # The classifier, from the record as training reads it and from the live maps as guidance does.
            verdict = Guide(generator, classifier, both, GuidanceConfig()).classify(maps.half().float(), range(2), step)
            only_RS = torch.zeros(len(stored_RLAKFHW), len(config.sigmas), dtype=torch.bool)
            only_RS[:, step] = True
            maps_RSLAKFHW = torch.stack([stored_RLAKFHW] * len(config.sigmas), dim=1)
            logits_RY = classifier(maps_RSLAKFHW, present_RK, only_RS)
        for r, group in enumerate(guide.relations.group_R):
            wanted = group_log_probs(logits_RY[r : r + 1], list(group))
            assert torch.equal(verdict.log_probability_RY[r : r + 1], wanted)
