"""Inversion of videos by any number of processes: rows of a manifest -> records -> tars.

`sharding` is all of it; `latents` has the ways from a video to noisy latents, `recording` makes one video's records.
`taking` shares rows among processes, `working` is one process's way through its rows, `outcomes` keeps what became of
them, and `packing` makes tars of finished ones.
"""
