"""The trainable head, features -> logits over the label set: linear (the paper's W, b), or made of text."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from cvg.classifier.backbones.base import Backbone
from cvg.classifier.config import HeadSettings, JointSettings, LinearSettings
from cvg.common.errors import SettingsError

# Length c of f below which logits are nearly linear in it. A mere cosine has no direction where there is no evidence,
# and optimiser steps of the size that suits the linear head turn it about: it hardly learned.
_LINEAR_BELOW = 10.0
# Lead, in logits, that the temperature first gives an anchor's own direction over the mean of its group.
_LEAD = 10.0
# Directions in which anchors differ by less than this part of the most are left to chance.
_GAIN = 20.0


class LinearHead(nn.Module):
    """logits = W x / sqrt(D) + b.

    The fixed 1/sqrt(D) keeps the effect of one optimiser step the same for a volume of a hundred numbers and for the
    hundred thousand patch features of a VLM, so that one learning rate serves all backbones.

    Args:
        features: input size D.
        labels: number of labels Y.
    """

    def __init__(self, features: int, labels: int) -> None:
        super().__init__()
        self.weight_YD = nn.Parameter(0.1 * torch.randn(labels, features))
        self.bias_Y = nn.Parameter(torch.zeros(labels))
        self.scale = 1 / math.sqrt(features)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Logits (B, Y)."""
        return features_BD @ self.weight_YD.T * self.scale + self.bias_Y


class TextHead(nn.Module):
    """A head whose weights W_y are text embeddings of the labels' phrases, or start there.

    Args:
        labels: number of labels Y.
        joint_dim: size E of the joint text space.
        tied: anchors are constants; otherwise they are trained from where they start.
    """

    anchor_YE: Tensor

    def __init__(self, labels: int, joint_dim: int, tied: bool) -> None:
        super().__init__()
        # Random until they are set, as all weights are. Stored either way: sampling needs no text tower.
        anchors = F.normalize(torch.randn(labels, joint_dim), dim=-1)
        if tied:
            self.register_buffer("anchor_YE", anchors)
        else:
            self.anchor_YE = nn.Parameter(anchors)

    @torch.no_grad()
    def set_anchors(self, anchor_YE: Tensor) -> None:
        """Give the head these anchors, tied or to start from; their number is the new number of labels."""
        anchors = anchor_YE.to(self.anchor_YE)
        if isinstance(self.anchor_YE, nn.Parameter):
            self.anchor_YE = nn.Parameter(anchors, requires_grad=self.anchor_YE.requires_grad)
        else:
            self.anchor_YE = anchors

    def unit(self, anchor_YE: Tensor | None) -> Tensor:
        """The head's own anchors or others, at unit length."""
        return F.normalize(self.anchor_YE if anchor_YE is None else anchor_YE, dim=-1)

    def start(self, deviation_YE: Tensor) -> None:
        """Start where labels of one group can be told apart: nothing to do for features in the joint space already.

        Args:
            deviation_YE: the anchors less the mean of their group.
        """

    def forward(self, features_BD: Tensor, anchor_YE: Tensor | None = None) -> Tensor:
        """Logits (B, Y), of the head's own anchors or of others."""
        raise NotImplementedError


class JointHead(TextHead):
    """logits_y = exp(tau) sum_t x_t . W_y: what the VLM itself says of a step's volume, as zero-shot CLIP does.

    x_t are the VLM's embeddings of the steps' volumes, less that of a volume without evidence; only tau is trained (and
    what makes the volume). Evidence of several steps adds up, and a step without any says nothing.

    Args:
        features: input size, steps times E.
        labels: number of labels Y.
        joint_dim: size E of the joint text space.
        tied: see `TextHead`.
    """

    def __init__(self, features: int, labels: int, joint_dim: int, tied: bool = True) -> None:
        super().__init__(labels, joint_dim, tied)
        self.steps = features // joint_dim
        self.log_scale = nn.Parameter(torch.tensor(math.log(_LEAD)))

    @override
    def forward(self, features_BD: Tensor, anchor_YE: Tensor | None = None) -> Tensor:
        summed_BE = features_BD.unflatten(-1, (self.steps, -1)).sum(-2)
        return self.log_scale.exp() * summed_BE @ self.unit(anchor_YE).T


class AnchoredHead(TextHead):
    """logits_y = exp(tau) cos(f, W_y) |f| / sqrt(|f|^2 + c^2), with f = U V x / sqrt(D) + b in the joint text space.

    W_y is the text embedding of the label's phrases, as in zero-shot CLIP (Radford et al., arXiv 2103.00020), or starts
    there. x are the patch features of all steps side by side, so V has weights of its own for every place, frame and
    step: a pooled image embedding would not know where things are. V and U share a small rank; with E outputs the
    read-out would be E/Y times as large as the linear head.

    Args:
        features: input size D.
        labels: number of labels Y.
        joint_dim: size E of the joint text space.
        rank: R of the read-out.
        tied: see `TextHead`.
    """

    def __init__(self, features: int, labels: int, joint_dim: int, rank: int = 16, tied: bool = True) -> None:
        super().__init__(labels, joint_dim, tied)
        self.read_RD = nn.Parameter(0.1 * torch.randn(rank, features))
        self.joint_ER = nn.Parameter(nn.init.orthogonal_(torch.empty(joint_dim, rank)))
        self.bias_E = nn.Parameter(torch.zeros(joint_dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_LEAD)))
        self.scale = 1 / math.sqrt(features)

    @override
    @torch.no_grad()
    def start(self, deviation_YE: Tensor) -> None:
        """Start read-out and temperature where labels of one group can be told apart, however alike their anchors are.

        Captions of a group differ in a word or two: real text towers put them within a few degrees, and a random
        subspace of R dimensions misses most of what is left. So U starts along the directions in which anchors differ
        within groups, with the gain that makes them count alike; the rest of its columns stay random.

        Args:
            deviation_YE: the anchors less the mean of their group.
        """
        deviation_YE = deviation_YE.to(self.joint_ER)
        self.log_scale.fill_(math.log(_LEAD / float(deviation_YE.square().sum(1).mean().sqrt())))
        _, length_Y, direction_YE = torch.linalg.svd(deviation_YE, full_matrices=False)
        used = min(int((length_Y > length_Y[0] / _GAIN).sum()), self.joint_ER.shape[1])
        gain = length_Y[:used].square().mean().sqrt() / length_Y[:used]
        basis_ER = torch.linalg.qr(torch.cat([direction_YE[:used].T, self.joint_ER], dim=1)).Q
        self.joint_ER.copy_(basis_ER[:, : self.joint_ER.shape[1]])
        self.joint_ER[:, :used] *= gain

    @override
    def forward(self, features_BD: Tensor, anchor_YE: Tensor | None = None) -> Tensor:
        joint_BE = F.linear(features_BD @ self.read_RD.T * self.scale, self.joint_ER, self.bias_E)
        direction_BE = joint_BE * torch.rsqrt(joint_BE.square().sum(-1, keepdim=True) + _LINEAR_BELOW**2)
        return self.log_scale.exp() * direction_BE @ self.unit(anchor_YE).T


def build_head(settings: HeadSettings, backbone: Backbone, features: int, labels: int) -> LinearHead | TextHead:
    """The head of these settings, with random weights (and anchors).

    Args:
        settings: which head, and of the ones made of text how the anchors are made (`cvg.classifier.anchors`).
        backbone: whose joint text space the anchors live in.
        features: input size D.
        labels: number of labels Y.

    Raises:
        SettingsError: the backbone has no text, or not what this head needs.
    """
    if isinstance(settings, LinearSettings):
        return LinearHead(features, labels)
    if backbone.joint_dim is None:
        raise SettingsError(
            f"head {settings.name}: its anchors are text embeddings, and this backbone has no text tower; use a dual "
            "encoder such as CLIP (docs/backbones.md), or a linear head"
        )
    if isinstance(settings, JointSettings):
        if not backbone.reads_joint:
            raise SettingsError(
                "head joint: it compares the backbone's own embeddings with text, and this one reads others; give the "
                "backbone layer -1 and the option read: joint, or use an anchored head"
            )
        return JointHead(features, labels, backbone.joint_dim, settings.tied)
    if not 1 <= settings.rank <= backbone.joint_dim:
        raise SettingsError(
            f"head anchored: rank is {settings.rank}, expected 1 to {backbone.joint_dim} of the joint space"
        )
    return AnchoredHead(features, labels, backbone.joint_dim, settings.rank, settings.tied)
