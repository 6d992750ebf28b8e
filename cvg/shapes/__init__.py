"""The shapes world: a small, self-contained setting with a renderer, an oracle, labels and shipped weights."""
