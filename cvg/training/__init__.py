"""The classifier's training with Lightning: module, data and metrics.

Axes of tensors in this package, beside those of :mod:`cvg.classifier`: X the prompts p+ and p-.
"""
