"""Suites: the prompts of an evaluation, and the judge that reads their videos."""
