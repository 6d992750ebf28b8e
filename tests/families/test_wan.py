"""Wan 2.1."""

from __future__ import annotations

from diffusers import WanPipeline
from families.conformance import Conformance
from tiny import tiny_pipeline


class TestWan(Conformance):
    size = (5, 32, 32)

    def build(self) -> WanPipeline:
        return tiny_pipeline()
