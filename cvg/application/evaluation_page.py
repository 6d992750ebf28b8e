"""The page of an evaluation's videos: unguided and guided of each prompt, those first that guidance made right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr

from cvg.application import html
from cvg.common.errors import DataError
from cvg.evaluation.rows import Evaluation, Row
from cvg.reporting.sections import evaluation_sections
from cvg.reporting.table import interval, number

CHANGES: Final = {
    "wrong → right": (False, True),
    "right → wrong": (True, False),
    "wrong → wrong": (False, False),
    "right → right": (True, True),
}
"""What guidance made of a video: (unguided right, guided right)."""
ALL: Final = "all"


def require_videos(result: Evaluation, folder: Path) -> None:
    """Raise DataError unless a folder has videos of an evaluation.

    Args:
        result: the evaluation.
        folder: where they were kept.
    """
    names = [row.video for row in result.rows if row.video is not None]
    if not any(inside(folder, side, name) for name in names for side in html.SIDES):
        raise DataError(
            f"videos {folder}: none of this evaluation's there; give the folder that its videos were kept in"
        )


def inside(folder: Path, side: str, name: str) -> Path | None:
    """A video of a folder; None where it is missing, or leads out of the folder, as a link may."""
    path, room = (folder / side / name).resolve(), folder.resolve()
    return path if path.is_relative_to(room) and path.is_file() else None


class EvaluationPage:
    """The page; made within a ``gr.Blocks``.

    Args:
        result: the evaluation.
        folder: of its videos; None where they were not kept.
    """

    def __init__(self, result: Evaluation, folder: Path | None) -> None:
        self.result, self.folder = result, folder
        counts = {name: len(self._chosen(name, ALL)) for name in CHANGES}
        choices = [(f"{name} ({count})", name) for name, count in counts.items()]
        first = next((name for name, count in counts.items() if count), ALL)
        gr.HTML(html.text(self._about()))
        with gr.Row():
            every = (f"{ALL} ({len(result.rows)})", ALL)
            self.change = gr.Radio([*choices, every], value=first, label="Unguided → guided", elem_id="cvg-change")
        with gr.Row():
            groups = list(dict.fromkeys(row.group for row in result.rows))
            self.group = gr.Dropdown([ALL, *groups], value=ALL, label="Group", min_width=150)
            self.case = gr.Dropdown(
                self._cases(first, ALL), label="Prompt", min_width=260, scale=3, elem_id="cvg-case", value=None
            )
        with gr.Row():
            self.before = gr.Button("Previous", size="sm", min_width=100)
            self.after = gr.Button("Next", size="sm", min_width=100, elem_id="cvg-next")
        self.shown = gr.HTML(elem_id="cvg-evaluation")
        with gr.Accordion("Figures", open=False):
            gr.HTML(self._figures())
        chosen, private = [self.change, self.group], {"api_visibility": "private"}
        self.on_load = (self.on_choice, chosen, {"outputs": self.case, **private})
        for field in chosen:
            field.input(self.on_choice, chosen, self.case, **private)
        for button, step in ((self.before, self.on_before), (self.after, self.on_after)):
            button.click(step, [*chosen, self.case], self.case, **private)
        self.case.change(self.on_case, self.case, self.shown, **private)

    def _about(self) -> list[str]:
        """A line on the evaluation as a whole."""
        result = self.result
        return [
            f"{len(result.rows)} prompts of {result.suite}; generator {result.generator['name']}, classifier "
            f"{result.classifier['name']}. Right: unguided {number(result.unguided['accuracy'])}, guided "
            f"{number(result.guided['accuracy'])}, gain {interval(result.gain, 'value', signed=True)}."
        ]

    def _figures(self) -> str:
        """The pictures of its report."""
        sections = evaluation_sections(self.result)
        return html.pictures([picture for section in sections for picture in section.get("images", ())])

    def _chosen(self, change: str, group: str) -> list[int]:
        """Numbers of the rows of a kind of change and a group."""
        wanted = CHANGES.get(change)
        return [
            index
            for index, row in enumerate(self.result.rows)
            if (wanted is None or (row.unguided.right, row.guided.right) == wanted) and group in (ALL, row.group)
        ]

    def _cases(self, change: str, group: str) -> list[tuple[str, int]]:
        rows = self.result.rows
        return [(f"{rows[index].prompt} (seed {rows[index].seed})", index) for index in self._chosen(change, group)]

    def on_choice(self, change: str, group: str) -> Any:
        """The prompts of a choice."""
        cases = self._cases(change, group)
        return gr.Dropdown(cases, value=cases[0][1] if cases else None)

    def on_before(self, change: str, group: str, case: int | None) -> int | None:
        """The prompt before."""
        return self._beside(change, group, case, -1)

    def on_after(self, change: str, group: str, case: int | None) -> int | None:
        """The prompt after."""
        return self._beside(change, group, case, 1)

    def _beside(self, change: str, group: str, case: int | None, by: int) -> int | None:
        found = self._chosen(change, group)
        if not found:
            return None
        return found[(found.index(case) + by) % len(found)] if case in found else found[0]

    def on_case(self, case: int | None) -> str:
        """Both videos of a prompt, and what the judge made of them."""
        if not isinstance(case, int) or not 0 <= case < len(self.result.rows):
            return html.text(["No prompt of this kind."])
        row = self.result.rows[case]
        shown = {side: self._video(row, side) for side in html.SIDES}
        captions = {side: f"{side}: {_verdict(getattr(row, side))}" for side in html.SIDES}
        return html.text([row.prompt], "h3") + html.sides(shown, captions) + html.text(_told(row))

    def _video(self, row: Row, side: str) -> str:
        if self.folder is None or row.video is None:
            return html.text(["The videos of this evaluation are not here."])
        path = inside(self.folder, side, row.video)
        return html.text(["This video is not there."]) if path is None else html.video(path)


def _verdict(score: Any) -> str:
    seen = ", ".join(label or "undecided" for label in score.labels)
    return "right" if score.right else f"wrong ({'; '.join(score.problems) or seen})"


def _told(row: Row) -> Sequence[str]:
    """Lines below the videos."""
    lines = [f"Asked: {', '.join(row.labels)}; seed {row.seed}; group {row.group}."]
    for label, before, after in zip(
        row.labels, row.guided.probability_before, row.guided.probability_after, strict=True
    ):
        if before is not None and after is not None:
            lines.append(f"{label}: probability {before:.2f} before guidance, {after:.2f} after.")
    return [*lines, *([f"Neither guided nor judged: {', '.join(row.unknown)}."] if row.unknown else [])]
