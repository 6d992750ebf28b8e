"""Peak memory of guided sampling at true scale, on any machine: the operations run on fake tensors, which hold nothing.

python -m benchmarks.scale --architecture '[wan-1.3b]'

What is counted is what tensors would hold, with fused attention; what kernels take for themselves is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import architecture as architectures
from benchmarks.architecture import Architecture
from benchmarks.case import checkpointed, random_case
from benchmarks.figures import Figure, markdown
from benchmarks.guidance import gradient, memory
from benchmarks.measure import Work
from benchmarks.plain import plain
from cvg.cli import run


def figures_of(architecture: Architecture, layers: Sequence[int] | None, dtype: str) -> list[Figure]:
    """Peak memory of one guided gradient over that of a plain denoising step."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    case = random_case(architecture, layers, 1, 50, "cpu", dtype, fake)
    case.latents = fake.from_tensor(case.latents)

    def recomputing() -> None:
        with checkpointed(case.generator):
            gradient(case, case.generator)

    work: dict[str, Work] = {
        "guided": lambda: gradient(case, case.generator),
        "checkpointed": recomputing,
        "plain way": lambda: gradient(case, plain(case.generator)),
    }
    return memory(case, work)


def main(
    architecture: list[str],
    layers: list[int] | None = None,
    size: tuple[int, int, int] | None = None,
    dtype: str = "bfloat16",
) -> None:
    """Print the peak memory of plain and guided sampling of one video, without running them.

    Args:
        architecture: names of files in benchmarks/architectures.
        layers: tapped layers; every third of the first two thirds when left out.
        size: frames, height and width in pixels; the released ones when left out.
        dtype: weights' dtype.
    """
    for name in architecture:
        print(f"\n## {name}\n\n{markdown(figures_of(architectures.load(name).shrunk(size=size), layers, dtype))}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.scale")
