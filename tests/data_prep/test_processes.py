"""Which process this is, of those that something started or that are to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cvg.common.errors import UserError
from data_prep.inversion.processes import place

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6", "RANK": "5", "LOCAL_RANK": "1"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_PROCID": "3"}
SLURM |= {"SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_NAME": "x", "SLURM_JOB_ID": "12345"}


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nothing of the environment is that of the tests' own processes."""
    for name in ("OMP_NUM_THREADS", "LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "0")  # so that it is put back
        monkeypatch.delenv(name)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_one_alone_is_as_ever() -> None:
    for given in ((None, None), (1, 1)):
        here = place("cpu", *given)
        assert (here.rank, here.count, here.device, here.fabric) == (0, 1, "cpu", None)
    with here.together(print) as end:
        end()


@pytest.mark.parametrize("given", [(None, None), (2, 3)])
def test_those_of_torchrun_are_joined(given: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(2)
    here = place("cpu", *given)
    assert (here.rank, here.count, here.device) == (5, 6, "cpu")
    assert torch.get_num_threads() == 1
    with here.together(print):
        assert not here.fabric.strategy.launcher.procs
    assert not torch.distributed.is_initialized()


def test_those_of_slurm_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    here = place("cpu", None, None)
    assert (here.rank, here.count) == (3, 4)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("device", "devices", "nodes", "environment", "reason"),
    [
        ("cuda:1", 2, None, {}, "device cuda:1: is a single one; give cuda"),
        ("warp", 2, None, {}, "devices 2, num_nodes 1: cannot be, on warp"),
        ("cpu", 3, 1, TORCHRUN, "does not match the world size"),
        ("cpu", 3, 2, SLURM, "does not match"),
    ],
)
def test_what_cannot_be_is_one_line(
    device: str, devices: int, nodes: int | None, environment: dict[str, str], reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=reason) as caught:
        place(device, devices, nodes)
    assert "\n" not in str(caught.value)
