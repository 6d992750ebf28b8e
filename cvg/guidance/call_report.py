"""What guidance did in one call of a guided pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cvg.composition import Composition, LabelSet
from cvg.guidance.traces import in_words, low, traces


@dataclass
class Report:
    """What guidance did in one call; empty where it did nothing.

    Attributes:
        compositions: what each video was understood to be asked for, one after the other as the pipeline returns them.
        probabilities: what the classifier thought, by denoising step; see :class:`cvg.guidance.sampler.SampleResult`.
        relations: the same told for each video and relation, as sidecars have it; see
            :func:`cvg.guidance.traces.traces`.
        moved: at each step that was guided, the videos whose latents were moved there.
        warnings: what makes it doubtful that the videos show what is asked, one line each.
    """

    compositions: list[Composition] = field(default_factory=list)
    probabilities: dict[int, list[Tensor]] = field(default_factory=dict)
    relations: list[list[dict[str, Any]]] = field(default_factory=list)
    moved: dict[int, list[int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = []
        for video, relations in enumerate(self.relations):
            moved = [step for step, videos in self.moved.items() if video in videos]
            lines.append(f"video {video}, {self.compositions[video].prompt!r}: moved at steps {moved}")
            for each in relations:
                before, after = each["probability_before"], each["probability_after"]
                told = "" if after is None else f": probability {before:.2f} before guidance, {after:.2f} after"
                lines.append(f"  {in_words(each['label'], each['entities'])}{told}")
        return "\n".join([*lines, *(f"warning: {line}" for line in self.warnings)]) or "nothing was guided"

    def tell(self, probabilities: dict[int, list[Tensor]], moved: dict[int, list[int]], labels: LabelSet) -> None:
        """Add what was done, and warn of what did not help.

        Args:
            probabilities: see there.
            moved: see there.
            labels: the label set.
        """
        self.probabilities, self.moved = probabilities, moved
        self.relations = traces(self, labels)
        for composition, relations in zip(self.compositions, self.relations, strict=True):
            for each in relations:
                after = each["probability_after"]
                if after is not None:
                    warning = low(repr(composition.prompt), in_words(each["label"], each["entities"]), after)
                    self.warnings += [] if warning is None else [warning]
