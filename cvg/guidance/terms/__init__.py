"""The terms of the loss that guided steps follow, one file each; :mod:`cvg.guidance.terms.base` says what a term is."""
