"""``make world``: the way from free English to a judged composition and a report, on tiny models of true classes.

prompts of T2V-CompBench's form -> videos, unguided and guided, in its layout -> a detector and a vision-language model
-> figures and the report. The generator, the classifier and the vision-language model are random: this shows that all
of it works together, not what guidance is worth. docs/tutorials/evaluate_wan.md has the same commands with real names.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from cvg.common.cli import run
from cvg.common.errors import require
from cvg.composition import LabelSet
from data_prep.steps import Step, run_step

PROMPTS = {
    "3_spatial_relationship": ["a wooden boat to the left of a lighthouse", "a kite above a sleeping fox"],
    "4_motion_binding": ["a fox moving left", "a balloon moving up"],
    "5_action_binding": ["a fox jumping"],
    "6_interaction": ["a quiet harbour at dawn"],
}
"""File of T2V-CompBench -> prompts, the last of which asks for nothing that can be guided."""


def words_of(texts: Iterable[str]) -> list[str]:
    """The different words of some texts, in order of appearance."""
    return list(dict.fromkeys(word for text in texts for word in text.lower().split()))


def make_prompts(folder: Path) -> None:
    """Write the prompts as T2V-CompBench has them: a folder ``prompts`` of files of one prompt a line."""
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    for name, lines in PROMPTS.items():
        (folder / "prompts" / f"{name}.txt").write_text("\n".join(lines))


def make_models(out: Path) -> None:
    """Write prompts, generator, classifier and vision-language model below a folder; what is whole stays."""
    from data_prep.pretrain import tiny  # here and below: help is to come without the libraries that compute

    labels = LabelSet.load("world")
    words = words_of(prompt for lines in PROMPTS.values() for prompt in lines)
    whole = out / "models.done"
    if not whole.exists():
        for name in ("compbench", "generator", "classifier", "vlm"):
            shutil.rmtree(out / name, ignore_errors=True)
        make_prompts(out / "compbench")
        tiny.make_generator(out / "generator", words)
        tiny.make_classifier(out / "classifier", out / "generator", labels)
        tiny.make_vlm(out / "vlm", words)
        whole.touch()


def main(out: Path = Path("runs/world"), maps: int = 1, batch_size: int = 8) -> None:
    """Go the whole way on tiny random models, each step by its public command.

    Args:
        out: working folder; run again to go on where it stopped.
        maps: prompts whose entity maps the report shows.
        batch_size: videos at a time.
    """
    from data_prep.pretrain import tiny

    require(1, batch_size=batch_size)
    require(0, maps=maps)
    make_models(out)
    evaluate = ["cvg.evaluate", "--suite", "t2v-compbench", "--suite_dir", str(out / "compbench")]
    evaluate += ["--classifier", str(out / "classifier"), "--generator", str(out / "generator")]
    evaluate += ["--judge", f"detector+vlm:{out / 'vlm'}", "--videos", str(out / "videos"), "--steps", str(tiny.STEPS)]
    evaluate += ["--batch_size", str(batch_size), "--controls", "false", "--out", str(out / "evaluation.json")]
    report = ["cvg.report", "--evaluation", str(out / "evaluation.json"), "--out", str(out / "report.html")]
    report += ["--maps", str(maps)]
    ran = run_step(Step("evaluate", evaluate, out / "evaluation.json"), out, False)
    run_step(Step("report", report, out / "report.html"), out, ran)
    print(f"\nvideos: {out / 'videos'}\nreport: {out / 'report.html'}")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.world")
