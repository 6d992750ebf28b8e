"""What foretells where entities will be is found, among maps that do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvg.common.errors import UserError
from cvg.probing.foresight import Foresight, centres, choose_taps

VIDEOS, LAYERS, HEADS, ENTITIES = 16, 4, 3, 2


def blobs(centre_NF2: Tensor, side: int = 8) -> Tensor:
    """Maps (N, F, side, side) of a peak at each centre, (x, y) in frame sides."""
    at = (torch.arange(side) + 0.5) / side
    x, y = centre_NF2[..., 0, None, None], centre_NF2[..., 1, None, None]
    return (-((at - x).square() + (at[:, None] - y).square()) / 0.02).exp()


def tracks(seed: int, videos: int = VIDEOS) -> Tensor:
    """Straight ways (videos, entities, 4 frames, 2) from anywhere to anywhere."""
    ends = torch.rand(2, videos, ENTITIES, 1, 2, generator=torch.Generator().manual_seed(seed)) * 0.7 + 0.15
    return torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 4)[:, None])


def maps(knowing: list[tuple[int, int]], videos: int = VIDEOS) -> tuple[Tensor, Tensor]:
    """Early and late maps: of the early ones, of two steps, only some layers and heads know the late places."""
    truth = blobs(tracks(0, videos).flatten(0, 1)).unflatten(0, (videos, ENTITIES))
    early = torch.empty(2, videos, LAYERS, HEADS, ENTITIES, 4, 8, 8)
    for step in range(2):
        for layer in range(LAYERS):
            for head in range(HEADS):
                other = blobs(tracks(1 + layer * HEADS + head + 100 * step, videos).flatten(0, 1))
                knows = (layer, head) in knowing
                early[step, :, layer, head] = truth if knows else other.unflatten(0, (videos, ENTITIES))
    return early, truth[:, None, None].expand(-1, LAYERS, HEADS, -1, -1, -1, -1).clone()


def test_the_layer_and_the_head_that_know_are_chosen() -> None:
    found = choose_taps(Foresight(*maps([(1, 2)]), torch.ones(VIDEOS, ENTITIES, dtype=torch.bool)), [0, 1, 2])
    assert found.layers == [1] and found.heads == [2]
    assert found.chosen.place > 0.99 and found.chosen.motion > 0.99 and found.chosen.error < 0.01
    assert found.default.score < 0.8
    assert abs(found.by_layer[0].score) < 0.4 and found.by_head[2].score > 0.99


def test_of_layers_that_know_alike_the_first_are_read() -> None:
    knowing = [(layer, head) for layer in (1, 3) for head in range(HEADS)]
    found = choose_taps(Foresight(*maps(knowing), torch.ones(VIDEOS, ENTITIES, dtype=torch.bool)), [0])
    assert found.layers == [1]


def test_absent_entities_do_not_count() -> None:
    early, late = maps([(1, 2)])
    present = torch.ones(VIDEOS, ENTITIES, dtype=torch.bool)
    present[:, 1] = torch.arange(VIDEOS) % 2 == 0
    before = Foresight(early, late, present).of([1], [2])
    early[:, 1::2, :, :, 1], late[1::2, :, :, 1] = torch.rand(4, 8, 8), torch.rand(4, 8, 8)
    assert Foresight(early, late, present).of([1], [2]) == before
    with pytest.raises(UserError, match="11 entities: give prompts that name 12 or more"):
        Foresight(early, late, present & (torch.arange(VIDEOS) < 8)[:, None] & (torch.arange(VIDEOS) != 1)[:, None])


def test_a_single_frame_has_places_and_no_motion() -> None:
    early, late = maps([(1, 2)])
    whole = torch.ones(VIDEOS, ENTITIES, dtype=torch.bool)
    found = Foresight(early[..., :1, :, :], late[..., :1, :, :], whole).of([1], [2])
    assert found.place > 0.99 and found.motion == 0


def test_centres_are_where_the_peak_is() -> None:
    way = tracks(0, 1)
    seen = centres(blobs(way.flatten(0, 1))[None, None, None])
    torch.testing.assert_close(seen, way, atol=0.05, rtol=0)
