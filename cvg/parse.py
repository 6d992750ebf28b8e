"""``python -m cvg.parse``: what prompts are understood to ask for, and how often rightly."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from cvg.common.cli import run
from cvg.common.errors import NothingToGuide, PromptError, SettingsError
from cvg.common.files import require_writable, write_json
from cvg.composition import Composition, LabelSet, parse
from cvg.composition.asking import read_prompts, understand
from cvg.composition.rewording import contradict
from cvg.evaluation.exam import measure, read_exams, table, to_json
from cvg.evaluation.suites.metadata import EXAMS
from cvg.reporting.table import columns


def told(composition: Composition, labels: LabelSet) -> list[str]:
    """What a prompt states, line by line, and a prompt that states the contrary (p-)."""
    lines = [f"{composition.prompt!r}"]
    for relation in composition.relations:
        label, entities = labels[relation.label], ", ".join(entity.phrase for entity in relation.entities)
        said = f"by {relation.wording!r}" if relation.wording else "said by hand"
        lines.append(f"  {label.name} ({entities}), {label.category}, {said}")
    lines += [f"  left out: {reason}" for reason in composition.left_out]
    if composition.unused:
        lines.append(f"  not used: {', '.join(map(repr, composition.unused))}")
    try:
        lines.append(f"  wrong would be: {contradict(composition, labels, random.Random(0)).prompt!r}")
    except PromptError:
        lines.append("  no wrong prompt can be made of it by exchanging words")
    return lines


def main(
    prompt: str | list[str] | None = None,
    prompts_file: Path | None = None,
    entities: list[str] | None = None,
    label: str | list[str] | None = None,
    labels: str = "world",
    suite: Literal["t2v-compbench", "vbench"] | None = None,
    suite_dir: Path | None = None,
    exam: Path | None = None,
    json: Path | None = None,
) -> None:
    """Show what prompts are understood to ask for; or measure it on a benchmark's prompts, against its own metadata.

    Args:
        prompt: a text prompt, or a list of them.
        prompts_file: a file of prompts (.txt, .jsonl, .csv); those with nothing to guide are counted, by reason.
        entities: entity phrases of the prompt by hand: subject, object of each relation in turn.
        label: labels of the relations by hand.
        labels: label set: a YAML file, or a shipped one.
        suite: benchmark whose prompts are read and compared with what its metadata say that they state.
        suite_dir: a checkout of the benchmark.
        exam: JSONL of prompts with what they state, which is compared: objects with prompt, category and relations,
            each of which has entities and a label.
        json: file to write the figures of a suite or an exam to.
    """
    given = {"prompt": prompt, "prompts_file": prompts_file, "suite": suite, "exam": exam}
    named = [f"--{name}" for name, value in given.items() if value]
    if len(named) != 1:
        raise SettingsError(f"{' and '.join(named) or 'nothing'} to read; give one of --{', --'.join(given)}")
    if (suite is None) != (suite_dir is None):
        raise SettingsError("--suite and --suite_dir go together; give both")
    if json is not None:
        if suite is None and exam is None:
            raise SettingsError("--json is for figures; give it with --suite or --exam")
        require_writable(json)
    known = LabelSet.load(labels)
    if exam is not None or (suite is not None and suite_dir is not None):
        exams = read_exams(exam) if exam is not None else EXAMS[str(suite)](suite_dir)  # type: ignore[arg-type]
        figures = measure(exams, known)
        print(columns(table(figures)))
        if json is not None:
            write_json(json, {"suite": suite or str(exam), "labels": labels, "categories": to_json(figures)})
            print(f"\nwrote {json}")
    elif prompts_file is not None:
        asked = [understand(line, known) for line in read_prompts(prompts_file, pictures=True)]
        for one in asked:
            plain = [f"{one.prompt!r}", f"  {one.reason}"]
            print("\n".join(plain if one.composition is None else told(one.composition, known)))
        reasons = [one.reason for one in asked if one.reason]
        counts = [f"{reason}: {reasons.count(reason)}" for reason in dict.fromkeys(reasons)]
        print("; ".join([f"\n{len(asked) - len(reasons)} of {len(asked)} prompts state what can be guided", *counts]))
    else:
        for text in [prompt] if isinstance(prompt, str) else prompt or []:
            try:
                print("\n".join(told(parse(text, known, entities, label), known)))
            except NothingToGuide as error:
                print(f"{text!r}\n  nothing to guide: {error}")


if __name__ == "__main__":
    run(main, prog="python -m cvg.parse")
