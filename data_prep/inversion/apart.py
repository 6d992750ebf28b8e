"""Lightning Fabric's processes without what joins them: no process group, and nobody who ends all when one ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from typing_extensions import override


class _Launcher(_SubprocessScriptLauncher):
    @override
    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Fabric's own would watch them, and end all others once one has ended in an error.
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        return function(*args, **kwargs)


class Apart(DDPStrategy):
    """As many processes as devices, started or found as those of distributed training are."""

    @override
    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    @override
    def setup_environment(self) -> None:
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
