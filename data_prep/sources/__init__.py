"""Data sets as they are downloaded -> what their videos show. One file a form; `registry` has their names.

A reader gives :class:`~data_prep.sources.base.Found`: the entities of a video with their tracks, what is stated of
them, when, under which licence. What is common to all comes after it: `segments` chooses labels and pieces of video
by the judges' rules, `pictures` looks at them, and `data_prep.collect` writes the manifest.
"""
