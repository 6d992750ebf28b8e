"""Measurements behind the figures of docs/results.md, each by one command."""

from cvg.common import quiet

quiet.hush_loggers()  # before the libraries are imported
