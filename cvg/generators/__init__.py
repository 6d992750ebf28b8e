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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
