"""Training samples: records, the tars that hold them, and batches from these."""
