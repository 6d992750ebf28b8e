"""Which steps, layers and heads of a generator tell the composition."""
