"""Guided denoising steps, and the sampling loop around them.

A *guided step* is a denoising step in T, counted 0, 1, ... from the noisiest of those that the classifier was trained
at. Axes of tensors in this package: B prompts (one sample each), C latent channels, E entities of a prompt, R relations
of all prompts together, K entity slots of a relation, N noisy copies of a volume, S guided steps, L tapped layers, A
attention heads, F latent frames, H and W rows and columns of latent tokens, Y labels, D features.
"""
