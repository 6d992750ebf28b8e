"""theta_agg: the entity maps of one step -> one spatiotemporal volume per entity.

A signed weighted mean over layers and heads, and a Transformer that corrects it. The correction starts at exactly
zero: on little data a Transformer that makes its maps from nothing overfits, while the mean alone already carries
the composition.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvg.common.sizes import Grid
from cvg.grounding.maps import TINY, normalise, resample

# Deviation under which a whole volume fades out; a mean over maps that agree has a deviation near 1.
_FLAT_VOLUME = 0.05


class Attention(nn.Module):
    """Multi-head attention on `scaled_dot_product_attention`, the same arithmetic in training and evaluation."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, query_BQD: Tensor, memory_BND: Tensor, visible_BN: Tensor) -> Tensor:
        """Attend from queries to the visible memory tokens; returns (B, Q, D)."""
        query = self.query(query_BQD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(memory_BND).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # No dropout on the weights: with it the fused kernels cannot be used, and a step takes several times as long.
        mixed = F.scaled_dot_product_attention(query, key, value, visible_BN[:, None, None])
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """A pre-norm Transformer block that reads from a memory, or from its own input when given no memory."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BQD: Tensor, visible_BN: Tensor, memory_BND: Tensor | None = None) -> Tensor:
        """One block; the memory is read as it is, so it should be normalised."""
        x = self.norm(x_BQD)
        x = x_BQD + self.dropout(self.attention(x, x if memory_BND is None else memory_BND, visible_BN))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Aggregator(nn.Module):
    """Maps of one step -> the volume of that step.

    Args:
        steps: guided steps S (parameters are shared, with a step embedding).
        layers: tapped layers L.
        heads: attention heads A.
        slots: entity slots K.
        grid: the volume's (F, H, W); maps of another size are resampled to it.
        dim: width of the Transformer.
        depth: its blocks; 0 leaves the weighted mean alone.
        attention_heads: heads of its attention; must divide ``dim``.
        dropout: in its blocks.
    """

    def __init__(
        self,
        steps: int,
        layers: int,
        heads: int,
        slots: int,
        grid: Grid,
        dim: int = 64,
        depth: int = 2,
        attention_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        frames, height, width = self.grid = grid
        self.slots, self.depth = slots, depth
        self.weight_LA = nn.Parameter(torch.ones(layers, heads))
        if depth == 0:
            return
        self.embed = nn.Linear(height * width, dim)
        self.layer = nn.Parameter(0.02 * torch.randn(layers, 1, 1, 1, dim))
        self.head = nn.Parameter(0.02 * torch.randn(heads, 1, 1, dim))
        self.slot = nn.Parameter(0.02 * torch.randn(slots, 1, dim))
        self.frame = nn.Parameter(0.02 * torch.randn(frames, dim))
        self.step = nn.Embedding(steps, dim)
        nn.init.normal_(self.step.weight, std=0.02)
        self.query_KFD = nn.Parameter(0.02 * torch.randn(slots, frames, dim))
        self.blocks = nn.ModuleList(Block(dim, attention_heads, dropout) for _ in range(depth))
        self.read = Block(dim, attention_heads, dropout)
        self.memory_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.out = nn.Linear(dim, height * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, maps_BLAKFHW: Tensor, present_BK: Tensor, step_B: Tensor) -> Tensor:
        """The volume of one step.

        Args:
            maps_BLAKFHW: attention probabilities, float32 or float64, of any F, H, W.
            present_BK: bool; the volume of an absent slot is zero and its maps influence nothing.
            step_B: for each row, which guided step (0 is the noisiest) its maps come from.

        Returns:
            (B, K, F, H, W) on the grid, near unit deviation over (F, H, W). The fixed scale keeps training from
            growing the volume until noise on it means nothing.
        """
        maps = normalise(resample(maps_BLAKFHW, self.grid)) * present_BK[:, None, None, :, None, None, None]
        volume = torch.einsum("blakfhw,la->bkfhw", maps, self.weight_LA) / self.weight_LA.abs().sum().clamp_min(TINY)
        if self.depth:
            volume = volume + self._correction(maps, present_BK, step_B)
        volume = volume - volume.mean(dim=(-3, -2, -1), keepdim=True)
        deviation = (volume.square().mean(dim=(-3, -2, -1), keepdim=True) + _FLAT_VOLUME**2).sqrt()
        return volume / deviation * present_BK[..., None, None, None]

    def _correction(self, maps_BLAKFHW: Tensor, present_BK: Tensor, step_B: Tensor) -> Tensor:
        batch, layers, heads, slots, frames = maps_BLAKFHW.shape[:5]
        step_BD = self.step(step_B)
        tokens = self.embed(maps_BLAKFHW.flatten(-2)) + self.layer + self.head + self.slot + self.frame
        tokens = tokens.flatten(1, 4) + step_BD[:, None]
        visible = present_BK[:, None, None, :, None].expand(-1, layers, heads, -1, frames).flatten(1)
        # A row without any entity would attend to nothing, which is NaN; its volume is zero whatever it attends to.
        visible = visible | ~present_BK.any(1, keepdim=True)
        for block in self.blocks:
            tokens = block(tokens, visible)
        queries = self.query_KFD.flatten(0, 1) + step_BD[:, None]
        read = self.out(self.norm(self.read(queries, visible, self.memory_norm(tokens))))
        return read.view(batch, slots, frames, *self.grid[1:])
