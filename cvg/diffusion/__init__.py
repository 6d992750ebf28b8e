"""Noise schedules, and the deterministic trajectories through them."""
