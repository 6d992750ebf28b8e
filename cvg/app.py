"""``python -m cvg.app``: guidance in the browser; videos as they denoise, shards, and an evaluation's videos."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.sizes import Size
from cvg.generators import Loading
from cvg.guidance.config import RULES, GuidanceConfig

# What computes, and Gradio, are imported by the functions that use them: help and wrong options need neither.
MYPY = False
if MYPY:
    from cvg.application.models import Models
    from cvg.classifier import CompositionClassifier
    from cvg.evaluation.rows import Evaluation


def main(
    classifier: str | list[str] = [  # noqa: B006  (never changed)
        "shapes-classifier",
        "shapes-cogvideox-classifier",
        "shapes-wan-more-classifier",
    ],
    generator: str | None = None,
    labels: str = "world",
    size: Size | None = None,
    prompt: str = "a purple circle moving towards a green square",
    steps: int = 50,
    previews: int = 8,
    evaluation: Path | None = None,
    videos: Path | None = None,
    shards: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Serve pages that make guided videos, and look into shards and evaluations, until Ctrl-C.

    The first page shows what a prompt is understood to ask for as it is typed, and makes its video unguided and guided
    from the same noise. Only what is named here can be reached from the pages. What they make is gone when this ends;
    its files can be downloaded.

    Args:
        classifier: what can be chosen to guide: an exported classifier folder, hub id, or shipped name, or a list of
            them; the first is loaded at once, others when they are chosen. Rules can be chosen beside each. "rules"
            alone guide --generator at --size.
        generator: pipeline folder, hub id, or shipped name, in place of the one that a classifier was trained on.
        labels: label set of the rules: a YAML file, or a shipped one.
        size: frames, height, width in pixels of the videos of rules alone; a classifier has its own.
        prompt: shown at first.
        steps: denoising steps, at first.
        previews: how often latents are decoded to be shown while a video denoises, in each of its two runs; 0 for
            never, as large models may want it.
        evaluation: JSON file of ``python -m cvg.evaluate``, to look at prompt by prompt.
        videos: folder that it kept its videos in.
        shards: folder written by ``make invert``, to look into.
        host: address to listen on. With others than the default, everybody who reaches this machine can use the pages.
        port: to listen on.
        guiding: how guided steps are taken.
        loading: where and how generators are computed.
    """
    require(1, steps=steps)
    require(0, previews=previews)
    if not 0 < port < 2**16:
        raise SettingsError(f"port {port}: give a number from 1 to {2**16 - 1}")
    if videos is not None and evaluation is None:
        raise SettingsError(f"videos {videos}: of no evaluation; give --evaluation with it")
    if importlib.util.find_spec("gradio") is None:
        raise SettingsError("gradio is not installed, which the pages are made with; install cvg[app]")
    from cvg.application.serving import build, serve
    from cvg.common import quiet

    quiet.silence()  # again, of what these have imported
    models = _models(classifier, generator, labels, size, guiding, loading)
    models.sampler(models.names[0], models.ways(models.names[0])[0]).guided_steps(steps)
    with TemporaryDirectory(prefix="cvg-app-") as folder:
        reader = _reader(models)
        pages = build(
            models,
            Path(folder),
            prompt,
            steps,
            previews,
            None if shards is None else (shards, reader),
            None if evaluation is None else evaluation_at(evaluation, videos),
        )
        try:  # whenever it is interrupted: the thread that serves would keep the process
            tell(serve(pages, host, port), host)
            while True:
                time.sleep(3600)
        finally:
            pages.close(verbose=False)


def _models(
    classifier: str | list[str],
    generator: str | None,
    labels: str,
    size: Size | None,
    guiding: GuidanceConfig,
    loading: Loading,
) -> Models:
    """What can be chosen."""
    from cvg.application.models import Models
    from cvg.composition import LabelSet

    names = [classifier] if isinstance(classifier, str) else list(dict.fromkeys(classifier))
    return Models(names, LabelSet.load(labels), generator, size, loading, guiding)


def _reader(models: Models) -> CompositionClassifier | None:
    """The classifier that looks into shards: the first that there is."""
    names = [name for name in models.names if name != RULES]
    return models.classifier(names[0]) if names else None


def evaluation_at(evaluation: Path, videos: Path | None) -> tuple[Evaluation, Path | None]:
    """The evaluation, and where its videos lie."""
    from cvg.application.evaluation_page import require_videos
    from cvg.evaluation.rows import read_evaluation

    result = read_evaluation(evaluation)
    if videos is not None:
        require_videos(result, videos)
    return result, videos


def tell(url: str, host: str) -> None:
    """Say where the pages are, and who else can reach them."""
    from cvg.application.serving import LOOPBACK

    if host not in LOOPBACK:
        print(
            f"warning: host {host}: everybody who reaches this machine can make videos here, and see what the pages "
            "show",
            file=sys.stderr,
        )
    print(f"open {url} (Ctrl-C ends it)", flush=True)


if __name__ == "__main__":
    run(main, prog="python -m cvg.app")
