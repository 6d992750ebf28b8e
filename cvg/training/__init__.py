"""The classifier's training with Lightning: module, data and metrics."""
