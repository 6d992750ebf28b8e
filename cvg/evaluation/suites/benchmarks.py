"""T2V-CompBench, VBench and VBench-2.0: their prompts from folders of their own, and videos laid out as theirs are.

Of their files only the prompts are read, and where a prompt belongs. What a prompt asks for is read from its words, as
that of any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from cvg.common.errors import DataError
from cvg.common.files import read_json
from cvg.composition import LabelSet
from cvg.composition.asking import PromptLine, read_prompts
from cvg.evaluation.suites.base import Case, SuiteSettings
from cvg.evaluation.suites.free import FreeSuite, file_name

COMPBENCH: Final = {
    "1_consistent_attr": "consistent_attr_1",
    "2_dynamic_attr": "dynamic_attr_2",
    "3_spatial_relationship": "spatial_3",
    "4_motion_binding": "motion_4",
    "5_action_binding": "action_5",
    "6_interaction": "interaction_6",
    "7_numeracy": "numeracy_7",
}
"""T2V-CompBench's files of prompts -> the folders of their videos."""
VBENCH: Final = ("spatial_relationship", "multiple_objects", "color", "human_action")
"""VBench's dimensions that ask for compositions."""
VBENCH2: Final = (
    "Dynamic_Spatial_Relationship",
    "Dynamic_Attribute",
    "Motion_Order_Understanding",
    "Composition",
    "Human_Interaction",
)
"""VBench-2.0's."""
VBENCH2_NAME: Final = 180
"""Characters of a prompt that name VBench-2.0's videos."""


class CompBenchSuite(FreeSuite):
    """T2V-CompBench, of either version. Its groups are its categories.

    Videos are ``CATEGORY/0001.mp4``, by the prompt's number; an empty line has none.

    Args:
        labels: what prompts are read with; the set ``world`` when None.
        device: torch device of the judge.
        settings: ``suite_dir``, a checkout of the benchmark (or a folder with its folder ``prompts``), and ``judge``
            and ``judge_cache`` where wanted.

    Raises:
        SettingsError: no folder, or settings that it has no use for.
        DataError: the folder has no prompts of this form.
    """

    def __init__(
        self, labels: LabelSet | None = None, device: str = "cpu", settings: SuiteSettings | None = None
    ) -> None:
        settings = settings or SuiteSettings()
        settings.only("t2v-compbench", "suite_dir", "judge", "judge_cache")
        folder = settings.needed("t2v-compbench", "suite_dir", "a checkout of github.com/KaiyueSun98/T2V-CompBench")
        files = {group: folder / "prompts" / f"{name}.txt" for name, group in COMPBENCH.items()}
        lines = {group: read_prompts(path) for group, path in files.items() if path.exists()}
        if not lines:
            wanted = ", ".join(f"{name}.txt" for name in COMPBENCH)
            raise DataError(f"suite_dir {folder}: none of {wanted} is in its folder prompts; give a checkout")
        super().__init__("t2v-compbench", lines, labels, device, settings)

    def video_name(self, case: Case) -> str:
        """Its category and its number, of four digits, from 1."""
        return f"{case.group}/{case.number + 1:04d}.mp4"


class VBenchSuite(FreeSuite):
    """VBench's or VBench-2.0's dimensions that ask for compositions; these are its groups.

    Videos are ``DIMENSION/PROMPT-SAMPLE.mp4``, of VBench-2.0 with the first 180 characters of the prompt.

    Args:
        labels: what prompts are read with; the set ``world`` when None.
        device: torch device of the judge.
        settings: ``suite_dir``, a checkout of the benchmark (or a folder with its ``..._full_info.json``), and
            ``judge``, ``judge_cache`` and ``samples`` where wanted: VBench's own scores are of 5 videos a prompt,
            VBench-2.0's of 3.

    Raises:
        SettingsError: no folder, or settings that it has no use for.
        DataError: the folder has no prompts of this form.
    """

    def __init__(
        self, labels: LabelSet | None = None, device: str = "cpu", settings: SuiteSettings | None = None
    ) -> None:
        settings = settings or SuiteSettings()
        settings.only("vbench", "suite_dir", "judge", "judge_cache", "samples")
        folder = settings.needed("vbench", "suite_dir", "a checkout of github.com/Vchitect/VBench")
        places = {
            place / name: dimensions
            for name, dimensions in (("VBench_full_info.json", VBENCH), ("VBench2_full_info.json", VBENCH2))
            for place in (folder, folder / "vbench", folder / "vbench2")
        }
        path = next((path for path in places if path.exists()), None)
        if path is None:
            raise DataError(
                f"suite_dir {folder}: has neither VBench_full_info.json nor VBench2_full_info.json; give a checkout"
            )
        self.second = path.name.startswith("VBench2")
        super().__init__("vbench", _dimensions(path, places[path]), labels, device, settings)

    def video_name(self, case: Case) -> str:
        """Its dimension, its prompt and which of the prompt's videos it is."""
        prompt = case.prompt[:VBENCH2_NAME] if self.second else case.prompt
        return f"{case.group}/{file_name(prompt, f'-{case.sample}.mp4')}"


def _dimensions(path: Path, wanted: tuple[str, ...]) -> dict[str, list[PromptLine]]:
    """The prompts of each of these dimensions, in the order of the file."""
    records: Any = read_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: a {type(records).__name__}, not a list of prompts; give a checkout of the benchmark")
    found: dict[str, list[PromptLine]] = {name: [] for name in wanted}
    for index, told in enumerate(records):
        prompt = told.get("prompt_en") if isinstance(told, dict) else None
        dimensions = told.get("dimension") if isinstance(told, dict) else None
        if not isinstance(prompt, str) or not prompt.strip() or not isinstance(dimensions, list):
            raise DataError(f"{path}: entry {index} has no prompt_en and dimension; give a checkout of the benchmark")
        for name in dimensions:
            if name in found:
                found[name].append(PromptLine(prompt=prompt))
    if not any(found.values()):
        raise DataError(f"{path}: has no prompt of the dimensions {', '.join(wanted)}; give a checkout")
    return {name: lines for name, lines in found.items() if lines}
