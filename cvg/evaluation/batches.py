"""The cases of a run in batches: what is sampled with what does not depend on which process samples it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from cvg.common.errors import DataError, PromptError
from cvg.composition.asking import UNKNOWN
from cvg.evaluation.journal import Journal
from cvg.evaluation.runner import BATCH_RUNS, Runner, control_runs
from cvg.evaluation.suites import Case, Suite
from cvg.evaluation.timing import Timing


@dataclass(frozen=True)
class Batch:
    """Cases that are sampled together.

    Attributes:
        number: among all batches of the run.
        cases: the cases; all of them are guided, or none is.
        controls: whether they get controls.
    """

    number: int
    cases: tuple[Case, ...]
    controls: bool

    @property
    def guided(self) -> bool:
        """Whether they are sampled both ways, or plainly."""
        return self.cases[0].composition is not None

    def runs(self, trained: bool) -> int:
        """How often the sampler is called for it, with a classifier that was trained or with rules."""
        return BATCH_RUNS + (control_runs(trained) if self.controls else 0) if self.guided else 1


def in_batches(cases: Sequence[Case], size: int, controlled: int, plain: bool) -> list[Batch]:
    """The batches of a run: first those that are guided, then, where it is wanted, those that are sampled plainly.

    Args:
        cases: of the run.
        size: cases at a time.
        controlled: the first so many guided cases get controls, rounded up to whole batches.
        plain: whether cases without a composition are sampled at all.
    """
    guided = [case for case in cases if case.composition is not None]
    others = [case for case in cases if case.composition is None and plain]
    parts = [(part[at : at + size], at) for part in (guided, others) for at in range(0, len(part), size)]
    return [
        Batch(number, tuple(part), part[0].composition is not None and at < controlled)
        for number, (part, at) in enumerate(parts)
    ]


def within(cases: Sequence[Case], known: Collection[str]) -> list[Case]:
    """The cases, with no more than a classifier, or rules, can guide: of each the relations that it knows.

    Args:
        cases: of a suite.
        known: names of the labels that it can guide towards.

    Raises:
        PromptError: there is nothing to guide in any of them.
    """
    found = []
    for case in cases:
        relations = [] if case.composition is None else list(case.composition.relations)
        mine = tuple(relation for relation in relations if relation.label in known)
        unknown = tuple(relation.label for relation in relations if relation.label not in known)
        if not unknown:
            found.append(case)
        elif mine:
            found.append(replace(case, composition=replace(case.asked, relations=mine), unknown=unknown))
        else:
            why = f"the classifier does not know {', '.join(unknown)}"
            found.append(replace(case, composition=None, reason=UNKNOWN, why=why))
    if all(case.composition is None for case in found):
        reasons = Counter(case.reason for case in found)
        told = ", ".join(f"{reason}: {count}" for reason, count in reasons.items())
        raise PromptError(
            f"none of the {len(found)} prompts can be guided ({told}; the first: {found[0].prompt!r}: {found[0].why}); "
            f"the classifier knows {', '.join(known) or 'no label'}"
        )
    return found


def check_names(suite: Suite, cases: Sequence[Case]) -> None:
    """Ask for the name of every case's video before anything is sampled.

    Raises:
        DataError: no file can have a name, or two cases have the same.
    """
    names = Counter(suite.video_name(case) for case in cases)
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(f"suite {suite.name}: two videos would be named {twice[0]}; leave one of the prompts out")


def run_batches(
    runner: Runner, batches: Iterable[Batch], journal: Journal, told: Callable[[str], None] = lambda text: None
) -> None:
    """Run batches that are not done yet, after a warm-up.

    Args:
        runner: of the suite that the cases are from.
        batches: what is to be done by this process.
        journal: gets the rows of every batch as soon as it is done.
        told: shown in short how it stands after every batch.
    """
    warm = False
    for batch in batches:
        if not warm and batch.guided:
            runner.warm_up(batch.cases[0])
            warm = True
        runner.timing = Timing()
        if batch.guided:
            rows = runner.batch(batch.cases, batch.controls, guided_first=batch.number % 2 == 1)
        else:
            runner.plain_batch(batch.cases)
            rows = []
        journal.add(batch.number, rows, runner.timing)
        if done := journal.rows:
            unguided = sum(row.unguided.right for row in done) / len(done)
            guided = sum(row.guided.right for row in done) / len(done)
            told(f"{len(done)} prompts, right: unguided {unguided:.2f}, guided {guided:.2f}")
