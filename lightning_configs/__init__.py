"""Configurations of training, as files: those of the installed package are found where the checkout's would be."""
