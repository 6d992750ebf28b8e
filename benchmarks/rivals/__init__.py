"""Ways to a video that shows what was asked, side by side: same prompts, same noise, one run, one table.

``python -m benchmarks.rivals`` runs it. A rival is one file here, or a few lines of ``ours.py`` where it is this
project's own guidance with other settings.
"""
