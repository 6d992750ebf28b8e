"""The card of a classifier, the README.md of its folder, and what an evaluation found, which the card tells."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from pydantic import Field, StrictInt

from cvg.classifier.config import ClassifierConfig
from cvg.common.errors import ModelError
from cvg.common.files import MOST_CONFIG, atomic, read_json, write_json
from cvg.common.hub import HUB_ID, is_shipped_name
from cvg.common.typed import MOST, read, record, to_dict

EVALUATED: Final = "evaluation.json"
"""The file of a classifier's folder that holds :class:`Evaluated`."""
EXAMPLE: Final = "example.gif"
"""The file of a classifier's folder that holds the card's moving picture."""
MOST_EXAMPLE: Final = 1 << 23
"""Bytes of a moving picture, at most."""

CARD = """---
{{ card_data }}
---

# Composition classifier

Makes one frozen text-to-video model draw the composition that its prompt asks for, with CVG ([Compositional Video
Generation via Inference-Time Guidance](https://arxiv.org/abs/2605.14988)). It reads the cross-attention maps of
{{ generator }} and guides no other model: `config.json` has that model's fingerprint, the tapped layers and heads, the
noise levels, the label set and the backbone.
{{ example }}
## Use

```python
from cvg import CompositionClassifier, GuidedSampler, load_generator
from cvg.media.pixels import to_frames
from cvg.media.video import write_video

classifier = CompositionClassifier.from_pretrained({{ name }})
sampler = GuidedSampler(load_generator({{ loaded }}), classifier)
result = sampler([{{ prompt }}], seeds=[0])
write_video("guided.mp4", to_frames(result.video_BCFHW[0]), fps=8)
```

or with a pipeline of your own, called with all that it takes: `guided = cvg.guide(pipeline, {{ name }})`.

## Labels

| group | labels |
|---|---|
{{ labels }}
{{ figures }}{{ terms }}"""
"""Its template."""

_TERMS = """
## Videos it was trained on

Their terms are their owners'; whether weights trained on them may be used for a purpose is for who uses them to know.

| licence | data set | records |
|---|---|---|
"""

Text = Annotated[str, Field(max_length=MOST)]
Share = Annotated[float | None, Field(ge=-1, le=1)]


@record
class Compared:
    """Videos unguided and guided, from the same noise.

    Attributes:
        n: how many prompts.
        unguided: the share of them whose unguided video shows all that was asked; None of nothing.
        guided: the same of the guided videos.
        gain: the difference.
        ci95: its confidence interval.
    """

    n: Annotated[StrictInt, Field(ge=0)]
    unguided: Share = None
    guided: Share = None
    gain: Share = None
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)]


@record
class Evaluated:
    """What an evaluation found of a classifier, in short.

    Attributes:
        fingerprint: of the classifier's weights, all of them; figures of others are not told.
        suite: whose prompts and judge.
        generator: name of the guided generator.
        seed: of prompts and initial noise.
        steps: denoising steps.
        whole: of all prompts.
        groups: of each part of the suite.
        time_ratio: time guided over unguided.
        example: prompt of the moving picture, where there is one.
    """

    fingerprint: Text
    suite: Text
    generator: Text
    seed: StrictInt
    steps: StrictInt
    whole: Compared
    groups: Annotated[dict[Text, Compared], Field(max_length=MOST)]
    time_ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    example: Text | None = None


def write_evaluated(folder: Path, evaluated: Evaluated | None, example: bytes | None) -> None:
    """Write what a card tells into a classifier's folder, and remove what is there of another one.

    Args:
        folder: the classifier's.
        evaluated: what an evaluation found, if one is told of.
        example: a moving picture, as a GIF.
    """
    for name in (EVALUATED, EXAMPLE, "README.md"):  # the mixin leaves a card alone that is there
        (folder / name).unlink(missing_ok=True)
    if evaluated is not None:
        write_json(folder / EVALUATED, to_dict(evaluated))
        if example is not None:
            with atomic(folder / EXAMPLE) as path:
                path.write_bytes(example)


def read_evaluated(folder: Path) -> tuple[Evaluated | None, bytes | None]:
    """What :func:`write_evaluated` wrote; None for each that is not there. ModelError where it is something else."""
    path, picture = folder / EVALUATED, folder / EXAMPLE
    if not path.is_file():
        return None, None
    data = read_json(path, MOST_CONFIG)
    found = read(Evaluated, data, f"{path}: not the figures of a classifier", "export it again", error=ModelError)
    if not picture.is_file():
        return found, None
    if picture.stat().st_size > MOST_EXAMPLE:
        raise ModelError(f"{picture}: has more than the {MOST_EXAMPLE} bytes that a card's picture may have; delete it")
    return found, picture.read_bytes()


def card(
    data: ModelCardData,
    config: ClassifierConfig,
    name: str,
    evaluated: Evaluated | None = None,
    pictured: bool = False,
    **values: Any,
) -> ModelCard:
    """The card of a classifier.

    Args:
        data: metadata of every classifier's.
        config: of the classifier.
        name: the Hub id or folder that it is to be loaded by.
        evaluated: what an evaluation found.
        pictured: whether the moving picture is there too.
        values: further values of the template :data:`CARD`.
    """
    generator = config.generator["name"]
    on_hub = HUB_ID.fullmatch(generator) and not Path(generator).exists()
    data = copy.deepcopy(data)
    if on_hub:
        data.base_model = generator
    if evaluated is not None:
        data.model_name, data.eval_results = name, _results(evaluated)
    prompt = (evaluated and evaluated.example) or "YOUR PROMPT"
    shown = pictured and evaluated is not None and evaluated.example
    groups = [(group, _cell(", ".join(each["labels"]))) for group, each in config.labels.items()]
    return ModelCard.from_template(
        card_data=data,
        template_str=CARD,
        generator=f"`{generator}`" if on_hub or is_shipped_name(generator) else "the model it was trained on",
        name=_quoted(name),
        loaded=_quoted(generator),
        prompt=_quoted(prompt),
        example=f"\n![{_cell(prompt)}: unguided, guided]({EXAMPLE})\n\n{_CAPTION}" if shown else "",
        labels="\n".join(f"| {_cell(group)} | {names} |" for group, names in groups),
        figures=figures(evaluated),
        terms=terms(config.licences),
        **values,
    )


_CAPTION = (
    "Left unguided, right guided, from the same noise: the first prompt of the evaluation below that guidance\n"
    "made right, or where there is none the first.\n"
)


def _results(evaluated: Evaluated) -> list[EvalResult]:
    """Its figures as the Hub's ``model-index`` has them."""
    values = {"guided": evaluated.whole.guided, "unguided": evaluated.whole.unguided}
    return [
        EvalResult(
            task_type="text-to-video",
            dataset_type=evaluated.suite,
            dataset_name=f"{evaluated.suite}, {evaluated.whole.n} prompts",
            metric_type="accuracy",
            metric_value=value,
            metric_name=f"accuracy {side}",
        )
        for side, value in values.items()
        if value is not None
    ]


def figures(evaluated: Evaluated | None) -> str:
    """The part of the card on its evaluation; empty where there is none."""
    if evaluated is None:
        return ""
    lines = [
        "\n## Evaluation\n",
        "The share of videos that show all that was asked, by the judge of the suite "
        f"`{_cell(evaluated.suite)}` (seed {evaluated.seed}), {evaluated.steps} steps of "
        f"`{_cell(evaluated.generator)}`.\nUnguided and guided start from the same noise. Time: "
        f"{evaluated.time_ratio:.2f} x the unguided.\n",
        "| prompts | n | unguided | guided | gain | 95% interval |",
        "|---|---|---|---|---|---|",
        *(_figure_row(name, each) for name, each in {"all": evaluated.whole, **evaluated.groups}.items()),
    ]
    return "\n".join(lines) + "\n"


def _figure_row(name: str, part: Compared) -> str:
    """A row of the table of figures."""
    if part.unguided is None or part.guided is None or part.gain is None:
        return f"| {_cell(name)} | {part.n} | | | | |"
    low, high = part.ci95
    shares = f"{part.unguided:.2f} | {part.guided:.2f} | {part.gain:+.2f} | {low:+.2f} to {high:+.2f}"
    return f"| {_cell(name)} | {part.n} | {shares} |"


def terms(licences: Mapping[str, Mapping[str, int]] | None) -> str:
    """The part of the card on the licences of the training videos; empty where none is known.

    Args:
        licences: records by licence and data set.
    """
    if not licences:
        return ""
    rows = [(licence, dataset, count) for licence, sets in licences.items() for dataset, count in sets.items()]
    return _TERMS + "\n".join(f"| {_cell(licence)} | {_cell(dataset)} | {count} |" for licence, dataset, count in rows)


def _cell(text: str) -> str:
    """A text that leaves a table of Markdown whole."""
    return re.sub(r"[`\[\]]", "", " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;"))


def _quoted(text: str) -> str:
    """A text as a Python string, in double quotes and on one line of a fenced block."""
    escaped = text.encode("unicode_escape").decode().replace('"', '\\"').replace("`", "\\x60")
    return f'"{escaped}"'
