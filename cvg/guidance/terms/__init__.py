"""The terms of the loss that guided steps follow, one file each."""
