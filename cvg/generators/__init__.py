"""Frozen text-to-video models behind one small interface.

Axes, in the names of tensors here:

    B  videos of a batch, one prompt each  L  tapped layers
    C  channels, of a video or of latents  A  attention heads
    F H W  frames, rows and columns        E  entities of a prompt
    T  text keys                           N  video tokens
    P  attention problems of a sample: its frames where these read the prompt one by one, else 1

F H W count pixels in a video, tokens in maps; in latents (B, C, F, H', W') H' W' are rows and columns of latents, of
which a token joins a patch. Latents have this layout everywhere outside the adapters, whatever a pipeline keeps.
"""

from cvg.generators.base import Generator
from cvg.generators.conditioning import Conditioning
from cvg.generators.loading import Dtype, Loading, load_generator
from cvg.generators.registry import wrap_pipeline

__all__ = ["Conditioning", "Dtype", "Generator", "Loading", "load_generator", "wrap_pipeline"]
