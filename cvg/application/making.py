"""A video unguided and guided from the same noise, shown as it denoises, with what guidance did and its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cvg.application.models import Models
from cvg.common.errors import SettingsError
from cvg.common.files import write_json
from cvg.composition import Composition
from cvg.composition.asking import PromptLine
from cvg.evaluation.early import run_plain
from cvg.guidance.cautions import cautions
from cvg.guidance.config import RULES
from cvg.guidance.jobs import SIDE_BY_SIDE, Job, check_values, fitting_size, job_places
from cvg.guidance.making import settings_of, surroundings
from cvg.guidance.pictures import Pictures
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.traces import in_words, low, traces
from cvg.media.pixels import to_frames
from cvg.reporting.overlays import EditedLatents, Overlay, overlays

MOST_STEPS: Final = 200
"""Denoising steps of one video: a page is not to keep the machine for hours."""
FPS, SCALE = 8, 4
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Wish:
    """A video to make.

    Attributes:
        model: name of the choice.
        way: what guides.
        prompt: the text.
        composition: what it asks for; None for a video that is not guided.
        seed: of the initial noise.
        steps: denoising steps.
    """

    model: str
    way: str
    prompt: str
    composition: Composition | None
    seed: int
    steps: int


@dataclass(frozen=True)
class Stage:
    """How far a video is.

    Attributes:
        side: ``unguided`` or ``guided``: which run is at work; empty while the model is loaded.
        step: the denoising step that begins.
        steps: how many there are.
        share: of all that is to be done, 0 to 1.
        frames: by side, what the latents of this step look like, (F, H, W, 3); only what is new.
    """

    side: str
    step: int
    steps: int
    share: float
    frames: dict[str, Frames]


@dataclass(frozen=True)
class Made:
    """A finished video.

    Attributes:
        frames: by side, (F, H, W, 3).
        files: the guided video (the plain one where nothing is guided), both side by side, and what the run did.
        relations: what guidance did to each relation (:func:`cvg.guidance.traces.traces`).
        overlays: entity maps over the frames, one per relation.
        warnings: what makes it doubtful that the video is what was asked.
    """

    frames: dict[str, Frames]
    files: list[Path]
    relations: list[dict[str, Any]]
    overlays: list[Overlay]
    warnings: list[str]


class _Stopped(Exception):
    """Nobody waits for the video any more."""


class Making:
    """Makes one video in a thread of its own; iterate over it for its stages, the last of which is :class:`Made`.

    Args:
        models: what can be chosen.
        wish: the video.
        folder: for its files.
        previews: how often latents are decoded to be shown, in each of the two runs; 0 for never.

    Raises:
        UserError: (while it is iterated over) the wish cannot be had.
    """

    def __init__(self, models: Models, wish: Wish, folder: Path, previews: int) -> None:
        self.models, self.wish, self.folder = models, wish, folder
        self.shown = set(np.linspace(0, wish.steps - 1, previews).round().astype(int).tolist()) if previews else set()
        self.earlier: dict[int, Frames] = {}
        self.stopped = Event()
        self.told: SimpleQueue[Stage | Made | Exception | None] = SimpleQueue()

    def stop(self) -> None:
        """End it at the next denoising step; it then has no :class:`Made`."""
        self.stopped.set()

    def __iter__(self) -> Iterator[Stage | Made]:
        Thread(target=self._work, daemon=True).start()
        try:
            while (told := self.told.get()) is not None:
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            self.stop()

    def _work(self) -> None:
        try:
            with self.models.lock:
                self._make()
        except _Stopped:
            pass
        except Exception as error:  # raised where it is waited for
            self.told.put(error)
        self.told.put(None)

    def _make(self) -> None:
        wish = self.wish
        check_values([wish.prompt], [wish.seed], None, None, {"steps": wish.steps})
        if wish.steps > MOST_STEPS:
            raise SettingsError(f"steps {wish.steps}: give at most {MOST_STEPS}")
        self.told.put(Stage("", 0, wish.steps, 0.0, {}))
        sampler = self.models.sampler(wish.model, wish.way)
        self._alive()
        fitting_size(sampler, None, SCALE)
        ((place,),) = job_places([PromptLine(prompt=wish.prompt)], [wish.seed], self.folder)
        job = Job(wish.prompt, wish.composition, wish.seed, place, Pictures())
        if wish.composition is None:
            self._plain(sampler, job)
        else:
            self._both(sampler, job, wish.composition)

    def _plain(self, sampler: GuidedSampler, job: Job) -> None:
        """The one video of a prompt that asks for nothing that can be guided."""
        watch = self._watch(sampler, "unguided", 1)
        result = sampler([job.prompt], [job.seed], [], guided=False, steps=self.wish.steps, observe=watch)
        frames = {"unguided": to_frames(result.video_BCFHW[0])}
        job.write_videos(list(frames.values()), FPS, SCALE)
        self._write(sampler, job, [], {"unguided": result.seconds})
        self.told.put(Made(frames, [job.file(".mp4"), job.file(".json")], [], [], []))

    def _both(self, sampler: GuidedSampler, job: Job, composition: Composition) -> None:
        steps, asked = self.wish.steps, [composition]
        edited = EditedLatents(sampler.level_steps(steps, levels=sampler.levels(asked)))
        warnings = cautions(sampler, asked, bool(sampler.config.rules), steps)
        plain = run_plain(sampler, asked, [job.seed], steps, observe=self._watch(sampler, "unguided", 2))
        watch = self._watch(sampler, "guided", 2)

        def observe(step: int, z: Tensor) -> None:
            edited(step, z)
            watch(step, z)

        guided = sampler([job.prompt], [job.seed], asked, steps=steps, observe=observe)
        self._alive()
        frames = {side: to_frames(run.video_BCFHW[0]) for side, run in (("unguided", plain), ("guided", guided))}
        relations = traces(guided, sampler.classifier.labels)[0]
        for relation in relations:
            what, after = in_words(relation["label"], relation["entities"]), relation["probability_after"]
            warning = None if after is None else low(f"{job.prompt!r}, seed {job.seed}", what, after)
            warnings += [warning] if warning else []
        job.write_videos(list(frames.values()), FPS, SCALE)
        self._write(sampler, job, relations, {"guided": guided.seconds, "unguided": plain.seconds})
        files = [job.file(suffix) for suffix in (".mp4", *SIDE_BY_SIDE, ".json")]
        self.told.put(Made(frames, files, relations, overlays(sampler, asked, plain, guided, edited), warnings))

    def _watch(self, sampler: GuidedSampler, side: str, runs: int) -> Any:
        """What is shown every denoising step of a run; of ``runs``."""
        steps, before = self.wish.steps, 0.5 if side == "guided" else 0.0

        def observe(step: int, z: Tensor) -> None:
            self._alive()
            frames = {}
            if step in self.shown:
                frames[side] = to_frames(sampler.decoded(z)[0])
                if side == "guided":
                    frames["unguided"] = self.earlier[step]
                else:
                    self.earlier[step] = frames[side]
            self.told.put(Stage(side, step, steps, before + step / steps / runs, frames))

        return observe

    def _alive(self) -> None:
        if self.stopped.is_set():
            raise _Stopped

    def _write(
        self, sampler: GuidedSampler, job: Job, relations: list[dict[str, Any]], seconds: dict[str, float]
    ) -> None:
        """The sidecar, as ``python -m cvg.sample`` writes it."""
        wish = self.wish
        by_hand = (
            None
            if job.composition is None
            else [
                [relation.label, *(entity.phrase for entity in relation.entities)]
                for relation in job.composition.relations
            ]
        )
        named, guidance = RULES if wish.way == RULES else wish.model, "off" if job.composition is None else "on"
        settings = {
            "prompt": job.prompt,
            "seed": job.seed,
            **settings_of(sampler, named, guidance, None, sampler.size),
            **{"image": job.pictures.told, "understood": by_hand},
            **{"steps": wish.steps, "fps": FPS, "scale": SCALE, "batch_size": 1},
            **{"loading": asdict(self.models.loading), **surroundings()},
        }
        write_json(job.file(".json"), settings | {"relations": relations, "seconds": seconds})
