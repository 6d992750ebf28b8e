"""Training samples: records, the tars that hold them, and batches from these.

Axes of a record's maps: S guided steps, L tapped layers, A attention heads, K entity slots of a relation, F latent
frames, H and W rows and columns of latent tokens.
"""
