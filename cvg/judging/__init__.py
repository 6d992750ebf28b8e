"""Judges, which say what a finished video shows, and the rules they go by."""
