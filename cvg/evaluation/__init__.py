"""Measuring guidance: prompts and judges (suites), paired runs, controls, and the statistics over them."""
