"""Measuring guidance: paired runs of a suite's prompts, controls, and the statistics over them.

Axes of tensors in this package are those of :mod:`cvg.guidance`.
"""
