"""The composition classifier C: entity maps -> composition.

Axes of tensors in this package: B samples, S guided steps, L tapped layers, A attention heads, K entity slots of a
relation, F latent frames, H and W rows and columns of latent tokens, Y labels, D features, E the joint text space of a
frozen VLM, R rank of the anchored head's read-out, Q queries and N tokens of the aggregator's attention.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
