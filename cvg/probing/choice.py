"""Which steps, layers and heads of a generator to tap, from what probes read off them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cvg.common.errors import DataError
from cvg.probing.probe import Probe, Score


@dataclass(frozen=True)
class Choice:
    """What to tap, as positions among what was probed, and the scores that say why.

    Attributes:
        steps: guided steps.
        layers: tapped layers.
        heads: heads, the same in all layers.
        by_step: of each step, all layers and heads together.
        by_depth: of the chosen steps, all heads and the layers up to each.
        by_head: of each head in the chosen steps and layers.
        chosen: of the chosen steps, layers and heads together.
    """

    steps: list[int]
    layers: list[int]
    heads: list[int]
    by_step: list[Score]
    by_depth: list[Score]
    by_head: list[Score]
    chosen: Score


def choose(probe: Probe, most_steps: int) -> Choice:
    """The rule, on the scores of all label groups together.

    Steps: the noisiest ones at which all layers and heads together are clearly above chance, at most ``most_steps``.
    Layers: as few of the first ones as read the label at these steps within one standard error of what any number does,
    since a guided pass runs up to the last of them; of these, one that is missed least is left out at a time while that
    stays so. Heads: those that are clearly above chance on their own in these layers; all if none is.

    Raises:
        DataError: no step is above chance.
    """
    everything = range(probe.layers)
    by_step = [probe.overall(probe.together([step], everything), probe.steps) for step in range(probe.steps)]
    steps = [step for step, score in enumerate(by_step) if score.above][:most_steps]
    if not steps:
        best = max(by_step, key=lambda score: score.accuracy)
        raise DataError(
            f"probe: no step tells the label clearly better than chance ({best.accuracy:.2f} at best, chance "
            f"{best.chance:.2f}); give more videos, or later steps"
        )
    of_layer = [probe.together(steps, [layer]) for layer in everything]

    def reading(layers: list[int]) -> Score:
        return probe.overall(
            {name: torch.stack([of_layer[layer][name] for layer in layers]).sum(0) for name in probe.groups}
        )

    by_depth = [reading(list(range(depth + 1))) for depth in everything]
    best = max(by_depth, key=lambda score: score.accuracy)
    enough = best.accuracy - best.error
    layers = list(range(next(depth for depth, score in enumerate(by_depth) if score.accuracy >= enough) + 1))
    while len(layers) > 1:
        without = [[other for other in layers if other != layer] for layer in layers]
        fewer = max(without, key=lambda left: reading(left).accuracy)
        if reading(fewer).accuracy < enough:
            break
        layers = fewer
    by_head = [probe.overall(probe.together(steps, layers, [head]), probe.heads) for head in range(probe.heads)]
    heads = [head for head, score in enumerate(by_head) if score.above] or list(range(probe.heads))
    chosen = probe.overall(probe.together(steps, layers, heads))
    return Choice(steps, layers, heads, by_step, by_depth, by_head, chosen)
