"""Videos as files, as frames and as tensors."""
