"""Guided denoising steps, and the sampling loop around them."""
