"""Which steps, layers and heads of a generator tell the composition.

Axes of tensors in this package: N samples (one video's maps under one prompt), C probes, S steps, L layers, A attention
heads, D values of a map, Y labels of a group.
"""
