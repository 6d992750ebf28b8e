"""A classifier's folder, here or on the Hub: its config, weights, card, and what the card tells."""

# No `from __future__ import annotations`: the Hub mixin reads the signatures.
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download
from torch import nn

from cvg.classifier.card import EVALUATED, EXAMPLE, Evaluated, card, read_evaluated, write_evaluated
from cvg.classifier.config import check_folder
from cvg.common import hub
from cvg.common.errors import ModelError, UserError
from cvg.common.files import atomic, write_json
from cvg.common.fingerprint import whole_fingerprint

_FILES = ["config.json", "model.safetensors", EVALUATED, EXAMPLE]


def not_finite(module: nn.Module) -> str | None:
    """The name of the first weight of a module that holds NaN or infinity; None where all are finite."""
    return next((name for name, weight in module.state_dict().items() if not weight.isfinite().all()), None)


class ClassifierFolder(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="cvg",
    license="apache-2.0",
    pipeline_tag="text-to-video",
    tags=["compositionality", "video-guidance"],
):
    """What is saved, loaded and pushed to the Hub of a classifier: a base of it.

    Attributes:
        evaluated: what an evaluation of just these weights found, where the export was given one.
        example: a moving picture of it, as a GIF.
    """

    config: Any
    evaluated: Evaluated | None = None
    example: bytes | None = None

    def _save_pretrained(self, save_directory: Path) -> None:
        with atomic(save_directory / "model.safetensors") as path:
            state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
            safetensors.torch.save_file(state, path)
        write_json(save_directory / "config.json", self.config.to_dict())
        write_evaluated(save_directory, self._own_evaluated(), self.example)

    def _own_evaluated(self) -> Evaluated | None:
        """What an evaluation found, where it was of these weights; training and new labels make others."""
        own = self.evaluated is not None and self.evaluated.fingerprint == whole_fingerprint(self.state_dict())
        return self.evaluated if own else None

    def generate_model_card(self, *args: Any, name: str = "THIS FOLDER", **kwargs: Any) -> ModelCard:
        """The folder's README.md: use, labels, figures of an evaluation, and licences of the training videos.

        Args:
            args: none.
            name: Hub id or folder that it is to be loaded by.
            kwargs: further values of the card's template.
        """
        data = self._hub_mixin_info.model_card_data
        return card(data, self.config, name, self._own_evaluated(), self.example is not None, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Upload the folder that ``save_pretrained`` writes; arguments as of the mixin's.

        Returns:
            URL of the commit.

        Raises:
            ModelError: the id has not the form ``owner/name``, or the Hub cannot be reached or refuses.
        """
        with hub.pushing(repo_id):
            told = {"name": repo_id, **(kwargs.pop("model_card_kwargs", None) or {})}
            return str(super().push_to_hub(repo_id, model_card_kwargs=told, **kwargs))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a classifier folder (or Hub id, or a shipped name), in evaluation mode, on the CPU.

        Raises:
            ModelError: it is missing, incomplete, of another version, or its weights do not fit its config or are
                not finite.
        """
        name = str(hub.path(str(pretrained_model_name_or_path), kwargs.get("token")))
        try:
            # Not by the mixin, which reads whatever lies there: only what is checked first.
            folder = (
                Path(name) if Path(name).is_dir() else Path(snapshot_download(name, allow_patterns=_FILES, **kwargs))
            )
            check_folder(folder)
            with redirect_stdout(None):  # the mixin prints that it reads a folder
                classifier = super().from_pretrained(folder, strict=True)
            classifier.evaluated, classifier.example = read_evaluated(folder)
            if wrong := not_finite(classifier):
                raise ModelError(
                    f"classifier {name}: its weights are not finite ({wrong}); export another checkpoint or train again"
                )
            return classifier
        except UserError:
            raise
        except Exception as error:  # a damaged folder makes the libraries raise nearly anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"classifier {name}: cannot be loaded ({reason}); give a folder written by `python -m cvg.export`"
            ) from error
