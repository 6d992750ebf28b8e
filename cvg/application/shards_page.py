"""The page that looks into stored shards: which records there are, and what a classifier sees in one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import gradio as gr

from cvg.application import html
from cvg.classifier import CompositionClassifier
from cvg.common.errors import DataError, UserError
from cvg.reporting.inspection import read_by
from cvg.reporting.page import image
from cvg.reporting.views import sample_part
from cvg.shards.records import Record
from cvg.shards.shards import SPLITS, ShardInfo
from cvg.shards.stream import read_records

MOST_RECORDS: Final = 5000
"""Of a split, that are read: a page is for looking, and all of a split's are held in memory."""


class ShardsPage:
    """The page; made within a ``gr.Blocks``.

    Args:
        folder: of the shards; the page reads no other.
        classifier: whose view is shown where it was trained on such shards; None for the maps alone.

    Raises:
        DataError: the folder holds no shards.
    """

    def __init__(self, folder: Path, classifier: CompositionClassifier | None) -> None:
        self.folder = folder
        self.info = ShardInfo.load(folder)
        self.splits = [split for split in SPLITS if self.info.count(split)]
        if not self.splits:
            raise DataError(f"shards {folder}: no records; make them with `make invert`")
        self.classifier, self.why = classifier, ""
        try:
            self.seen = read_by(classifier, self.info, folder)
        except DataError as error:
            self.classifier, self.seen, self.why = None, self.info, str(error)
        self.records = lru_cache(maxsize=1)(self._records)
        labels = [label.name for label in self.info.label_set.labels]
        with gr.Row():
            self.split = gr.Radio(self.splits, value=self._first(), label="Split", min_width=200)
            self.label = gr.Dropdown(["all", *labels], value="all", label="Label of the video", min_width=150)
            self.record = gr.Dropdown([], label="Record", min_width=220, elem_id="cvg-record")
        self.note = gr.HTML(html.text(self._about()), elem_id="cvg-shards-note")
        self.shown = gr.HTML(elem_id="cvg-shards")
        chosen, private = [self.split, self.label], {"api_visibility": "private"}
        self.on_load = (self.on_choice, chosen, {"outputs": self.record, **private})
        for field in chosen:
            field.input(self.on_choice, chosen, self.record, **private)
        self.record.change(self.on_record, [self.split, self.record], self.shown, **private)

    def _first(self) -> str:
        """The split that is shown first: one that was not trained on, where there is one."""
        return "val" if "val" in self.splits else self.splits[0]

    def _about(self) -> list[str]:
        """Lines on the shards as a whole."""
        counts = ", ".join(f"{self.info.count(split)} {split}" for split in self.splits)
        levels = ", ".join(f"{sigma:.2f}" for sigma in self.info.sigmas)
        lines = [f"{counts} records of {self.info.generator['name']}; noise levels {levels}."]
        if self.why:
            lines.append(f"Shown without a classifier. {self.why}")
        return lines

    def _records(self, split: str) -> dict[str, Record]:
        if self.info.count(split) > MOST_RECORDS:
            raise DataError(
                f"shards {self.folder}: {self.info.count(split)} {split} records, and this page shows splits of at "
                f"most {MOST_RECORDS}; look at single ones with `python -m cvg.inspect`"
            )
        return {record.key: record for record in read_records(self.folder, [split], self.seen)}

    def _found(self, split: str) -> dict[str, Record]:
        try:
            return self.records(split if split in self.splits else self._first())
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def on_choice(self, split: str, label: str) -> Any:
        """The records of a split and label, to choose from."""
        found = self._found(split).values()
        keys = [(f"{one.label}: {one.key}", one.key) for one in found if label in ("all", one.label)]
        return gr.Dropdown(keys, value=keys[0][1] if keys else None)

    def on_record(self, split: str, key: str | None) -> str:
        """One record, as :mod:`cvg.inspect` shows it."""
        record = self._found(split).get(key or "")
        if record is None:
            return html.text(["No record is chosen."])
        part = sample_part(record, self.seen, self.classifier, (None, None))
        images = [image(data, caption) for data, caption in part.pictures.values()]
        return html.text([part.title], "h3") + html.text([part.note]) + html.pictures(images)
