"""SkyReels-V2: text-to-video by flow matching, built on Wan 2.1 (``SkyReelsV2Pipeline``)."""

from __future__ import annotations

from cvg.generators.families.wan import WanGenerator


class SkyReelsGenerator(WanGenerator):
    """Adapter of ``SkyReelsV2Pipeline``.

    Its transformer has layers and inputs of the same names, its VAE is Wan's, its prompts are cleaned and padded alike,
    and there is one transformer with one timestep for all tokens. Models of diffusion forcing have another pipeline.
    """
