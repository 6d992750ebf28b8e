"""CVG: compositional video guidance, at inference time, for frozen text-to-video models."""

__version__ = "0.1.0"
