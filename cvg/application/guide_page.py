"""The page that makes videos: a prompt, what it is understood to ask for, and the video unguided and guided."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr

from cvg.application import html, result
from cvg.application.fields import MOST_CHARACTERS, MOST_RELATIONS, NONE, fields_of, said_in
from cvg.application.making import MOST_STEPS, Made, Making, Stage, Wish
from cvg.application.models import CLASSIFIER, Models
from cvg.application.turns import Turns
from cvg.application.understanding import ROLES, Said, Understanding, clicked, phrases, understand
from cvg.common.cli import is_out_of_memory
from cvg.common.errors import UserError
from cvg.reporting.strips import COLOURS

KEPT: Final = 32
"""Videos whose files are kept; those of older ones are deleted."""
_HINT = (
    "Click on the words of a relation for the next label of its group, on an entity to exchange subject and object; "
    "or choose below."
)
Session = dict[str, Any]
"""What is known of a visitor: ``by_hand``, the prompt that the fields were corrected for, ``turns``, see
:class:`Turns`, and the ``making`` under way."""


class GuidePage:
    """The page; made within a ``gr.Blocks``.

    Args:
        models: what can be chosen.
        folder: for files of the videos that are made.
        prompt: shown first.
        steps: denoising steps, at first.
        previews: see :class:`Making`.
    """

    def __init__(self, models: Models, folder: Path, prompt: str, steps: int, previews: int) -> None:
        self.models, self.folder, self.previews = models, folder, previews
        self.numbers = itertools.count()
        first = models.names[0]
        self.session = gr.State({"by_hand": None, "turns": Turns(), "making": None})
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.prompt = gr.Textbox(
                    prompt, label="Prompt", lines=2, max_length=MOST_CHARACTERS, elem_id="cvg-prompt"
                )
                self.read = gr.HighlightedText(
                    label="Understood as", show_legend=False, show_whitespaces=True, elem_id="cvg-read"
                )
                self.notes = gr.HTML(elem_id="cvg-notes")
                self.fields = self._fields()
                ways = models.ways(first)
                self.model = gr.Dropdown(list(models.names), value=first, label="Model")
                self.way = gr.Radio(ways, value=ways[0], label="Guided by")
                with gr.Row():
                    self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=110)
                    self.steps = gr.Slider(1, MOST_STEPS, value=steps, step=1, label="Denoising steps", min_width=180)
                with gr.Row():
                    self.make = gr.Button("Make the video", variant="primary", elem_id="cvg-make")
                    self.stop = gr.Button("Stop", elem_id="cvg-stop")
            with gr.Column(scale=2, min_width=300):
                self.status = gr.HTML(elem_id="cvg-status", min_height=40)
                self.stage = gr.HTML(html.sides({}, {}), elem_id="cvg-stage")
                self.files = gr.File(
                    label="Files", file_count="multiple", interactive=False, visible=False, elem_id="cvg-files"
                )
                self.chart = gr.HTML(elem_id="cvg-chart")
                self.maps = gr.HTML(elem_id="cvg-maps")
        self._listen()

    def _fields(self) -> list[Any]:
        """Fields of the relations: label, subject and object of each in turn."""
        fields: list[Any] = []
        self.rows = []
        with gr.Accordion("Correct it", open=False, elem_id="cvg-correct"):
            for _ in range(MOST_RELATIONS):
                with gr.Row(visible=False) as row:
                    fields.append(gr.Dropdown([NONE], label="Label", min_width=100))
                    fields += [
                        gr.Dropdown([], label=role.capitalize(), allow_custom_value=True, min_width=100)
                        for role in ROLES
                    ]
                self.rows.append(row)
            with gr.Row():
                self.another = gr.Button("Another relation", size="sm", min_width=120)
                self.again = gr.Button("Read the prompt again", size="sm", min_width=120)
        return fields

    def _listen(self) -> None:
        asked = [self.session, self.prompt, self.model, self.way]
        self.shown = [self.session, self.read, self.notes, *self.rows, *self.fields]
        quick: dict[str, Any] = {"outputs": self.shown, "show_progress": "hidden", "api_visibility": "private"}
        quick |= {"concurrency_id": "read", "concurrency_limit": 4}
        self.on_load = (self.on_prompt, asked, quick)
        self.prompt.change(self.on_typed, asked, trigger_mode="always_last", **quick)  # of what is pasted, too
        self.again.click(self.on_prompt, asked, **quick)
        self.way.change(self.on_prompt, asked, **quick)
        self.model.change(self.on_model, self.model, self.way, api_visibility="private").then(
            self.on_prompt, asked, **quick
        )
        self.another.click(self.on_another, [*asked, *self.fields], **quick)
        self.read.select(self.on_click, [*asked, *self.fields], **quick)
        for field in self.fields:
            field.input(self.on_field, [*asked, *self.fields], trigger_mode="always_last", **quick)
        self.make.click(
            self.on_make,
            [*asked, self.seed, self.steps, *self.fields],
            [self.status, self.stage, self.files, self.chart, self.maps],
            show_progress="full",
            show_progress_on=self.status,
            concurrency_limit=1,
            concurrency_id="make",
            api_visibility="private",
        )
        self.stop.click(self.on_stop, self.session, None, api_visibility="private", show_progress="hidden")

    def on_model(self, model: str) -> Any:
        """The ways of another model."""
        ways = _asked(self.models.ways, model)
        return gr.Radio(ways, value=ways[0])

    def on_typed(self, session: Session, prompt: str, model: str, way: str) -> list[Any]:
        """Read the prompt, unless it is one that was corrected before its reading's turn came."""
        if session["turns"].corrected == prompt:
            return [gr.skip()] * len(self.shown)
        return self.on_prompt(session, prompt, model, way)

    def on_prompt(self, session: Session, prompt: str, model: str, way: str) -> list[Any]:
        """Read the prompt."""
        read = session | {"by_hand": None}
        return session["turns"].take(lambda: self._shown(read, self._understood(prompt, model, way), model, way))

    def on_field(self, session: Session, prompt: str, model: str, way: str, *fields: str | None) -> list[Any]:
        """Take what is chosen in the fields for what the prompt asks for."""
        said, corrected = said_in(fields), session | {"by_hand": prompt}

        def shown() -> list[Any]:
            return self._shown(corrected, self._understood(prompt, model, way, said), model, way, said, keep=True)

        return session["turns"].take(shown, prompt)

    def on_click(
        self, event: gr.SelectData, session: Session, prompt: str, model: str, way: str, *fields: str | None
    ) -> list[Any]:
        """Correct what was clicked on; after a click on words of an earlier text, read the present one."""

        def shown() -> list[Any]:
            before = self._understood(prompt, model, way, _by_hand(session, prompt, fields))
            part = dict(enumerate(before.parts)).get(event.index)
            if part is None or list(event.value)[:1] != [part.text]:
                return self._shown(session, before, model, way)
            said = clicked(before.said, part, _asked(self.models.label_set, model, way))
            found = self._understood(prompt, model, way, said)
            return self._shown(session | {"by_hand": prompt}, found, model, way, said)

        return session["turns"].take(shown, prompt)

    def on_another(self, session: Session, prompt: str, model: str, way: str, *fields: str | None) -> list[Any]:
        """Make room for one more relation."""
        by_hand = _by_hand(session, prompt, fields)
        said = None if by_hand is None else [one for one in by_hand if one.label]

        def shown() -> list[Any]:
            found = self._understood(prompt, model, way, said)
            return self._shown(session, found, model, way, said, more=1)

        return session["turns"].take(shown, prompt)

    def _understood(self, prompt: str, model: str, way: str, said: Sequence[Said] | None = None) -> Understanding:
        if len(prompt) > MOST_CHARACTERS:
            return Understanding(prompt, None, f"prompt of {len(prompt)} characters: give at most {MOST_CHARACTERS}")
        labels = _asked(self.models.label_set, model, way)
        return understand(prompt, labels, way != CLASSIFIER, said)

    def _shown(
        self,
        session: Session,
        found: Understanding,
        model: str,
        way: str,
        said: Sequence[Said] | None = None,
        more: int = 0,
        keep: bool = False,
    ) -> list[Any]:
        """Values of all that shows what is understood.

        Args:
            session: the visitor's.
            found: what is understood.
            model: the choice.
            way: what guides.
            said: what the fields hold; what is understood when None.
            more: empty relations besides.
            keep: leave in the fields what is there, as more may have been chosen meanwhile.
        """
        labels = _asked(self.models.label_set, model, way)
        said = found.said if said is None else said
        notes = html.text([found.problem], warnings=True) if found.problem else ""
        notes += html.text([f"Left out: {note}" for note in found.notes])
        notes += html.text([_HINT]) if found.composition else ""
        if len(said) > MOST_RELATIONS:
            notes += html.text([f"Of its relations the first {MOST_RELATIONS} can be corrected here."])
        kinds = {part.kind for part in found.parts if part.kind} - set(ROLES)
        colours = dict(zip(ROLES, (_hex(colour) for colour in COLOURS.values()), strict=True))
        colours |= dict.fromkeys(kinds, "#7c5cbf")
        read = gr.HighlightedText([(part.text, part.kind) for part in found.parts], color_map=colours)
        rows = [gr.Row(visible=number < len(said) + more) for number in range(MOST_RELATIONS)]
        known = phrases(found.prompt, said) if said or more else []
        fields = fields_of(said, known, labels, keep)
        return [session, read, notes, *rows, *fields]

    def on_make(
        self,
        session: Session,
        prompt: str,
        model: str,
        way: str,
        seed: int,
        steps: int,
        *fields: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it here)
    ) -> Iterator[list[Any]]:
        """Make the video; what is shown changes as it denoises."""
        found = self._understood(prompt, model, way, _by_hand(session, prompt, fields))
        if not prompt.strip():
            raise gr.Error("The prompt is empty: write what the video is to show.", print_exception=False)
        if found.composition is None and session["by_hand"] == prompt:
            raise gr.Error(found.problem, print_exception=False)
        wish = Wish(model, way, prompt, found.composition, int(seed or 0), int(steps))
        making = session["making"] = Making(self.models, wish, self._room(), self.previews)
        plain = [] if found.composition else ["This prompt states nothing that can be guided: it is sampled plainly."]
        stage = html.sides({}, {})
        shown: dict[str, str] = {}
        note = html.text(plain)
        yield [note, stage, gr.File(None, visible=False), "", ""]
        try:
            for told in making:
                if isinstance(told, Stage):
                    line = f"{told.side}: step {told.step + 1} of {told.steps}" if told.side else "The model is loaded"
                    progress(told.share, desc=line)
                    shown |= {side: html.moving(frames) for side, frames in told.frames.items()}
                    at = {side: f"{side}, step {told.step + 1} of {told.steps}" for side in told.frames}
                    stage = html.sides(shown, at) if told.frames else stage
                    yield [gr.skip(), stage if told.frames else gr.skip(), gr.skip(), gr.skip(), gr.skip()]
                else:
                    yield self._result(told)
                    return
        except UserError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise gr.Error("The memory does not suffice for this model.", duration=None) from error
        yield [html.text(["Stopped."]), stage, gr.skip(), "", ""]

    def _room(self) -> Path:
        """A new folder for a video's files; the oldest one goes."""
        number = next(self.numbers)
        shutil.rmtree(self.folder / str(number - KEPT), ignore_errors=True)
        return self.folder / str(number)

    def _result(self, made: Made) -> list[Any]:
        """All that is shown of a finished video."""
        files = gr.File([str(path) for path in made.files], visible=True)
        return [result.status(made), result.sides(made), files, result.chart(made), result.maps(made)]

    def on_stop(self, session: Session) -> None:
        """End what is being made for this visitor."""
        if session["making"] is not None:
            session["making"].stop()


def _asked(function: Any, *args: str) -> Any:
    """What a function of :class:`Models` gives; a refusal is shown in the page."""
    try:
        return function(*args)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _by_hand(session: Session, prompt: str, fields: Sequence[str | None]) -> list[Said] | None:
    """The relations in the fields, where they were corrected for this very prompt; None where it is to be read."""
    return said_in(fields) if session["by_hand"] == prompt else None


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)
