"""How time and memory are measured: pieces of work in turn, round by round, in one process."""

from __future__ import annotations

import resource
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from cvg.common.clock import synchronise, wall_clock

Work = Callable[[], Any]


def clock(device: torch.device) -> float:
    """Seconds: of wall time for work on a GPU, else of processor time of this process and of those it waited for.

    Processor time, because the ratio of two wall times says little on a machine that does something else as well.
    """
    if device.type == "cuda":
        return wall_clock(device)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def in_turn(
    work: Mapping[str, Work], rounds: int, device: torch.device, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds (:func:`clock`) of each piece of work in each round, after one round that is not counted (``warm_up``).

    A piece that a GPU has too little memory for is left out of the result.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-warm_up, rounds):
        for name in list(seconds):
            began = clock(device)
            try:
                work[name]()
            except torch.OutOfMemoryError:
                del seconds[name]
                continue
            if number >= 0:
                seconds[name].append(clock(device) - began)
    return seconds


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations made and that still live, and their peak.

    Exact and repeatable, on any device and on fake tensors. What a kernel takes for itself while it runs is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        before = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if id(storage) not in before and storage not in self._known:  # not a view of an input
                    size = storage.nbytes()
                    self._known[storage] = size
                    weakref.finalize(storage, self._free, size)
                    self.live += size
        self.peak = max(self.peak, self.live)
        return result

    def _free(self, size: int) -> None:
        self.live -= size


def peak_bytes(work: Work, device: torch.device) -> int | None:
    """Most memory that the work held at once beyond what was there before; None where a GPU has too little.

    On a GPU what PyTorch's allocator handed out, elsewhere :class:`LiveBytes`.
    """
    if device.type != "cuda":
        with LiveBytes() as counter:
            work()
        return counter.peak
    synchronise(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        work()
    except torch.OutOfMemoryError:
        return None
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) - before


def weight_bytes(*modules: torch.nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(stored_bytes(t) for m in modules for t in (*m.parameters(), *m.buffers()))


def stored_bytes(tensor: Tensor) -> int:
    """Bytes that a tensor holds; of a quantised one those of its parts."""
    if is_traceable_wrapper_subclass(tensor):
        return sum(stored_bytes(getattr(tensor, part)) for part in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()
