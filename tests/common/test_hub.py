"""Names that are no folder here: what is asked of the Hub, and what is said where it does not have them."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import errors

from cvg.common import hub
from cvg.common.errors import ModelError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runs" / "classifier").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answering(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    asked: list[str] = []

    def model_info(name: str, **_: Any) -> None:
        asked.append(name)
        if error is not None:
            raise error

    monkeypatch.setattr("huggingface_hub.model_info", model_info)
    return asked


class Missing(errors.RepositoryNotFoundError):
    """Without the answer that its like comes with."""

    def __init__(self) -> None:
        Exception.__init__(self, "404")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("runs/clasifier", "runs/classifier"),
        ("run/classifier", "runs/classifier"),
        ("shapes/wan", "shapes-wan"),
        ("cvg/shapes-classifer", "shapes-classifier"),
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", None),
    ],
)
def test_a_name_that_is_nearly_one_here_is_said_before_the_hub_is_asked(
    name: str, near: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = answering(monkeypatch, Missing())
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError, match="the Hub has none of that name") as error:
        hub.path(name)
    assert asked == [name]
    assert caplog.messages == ([f"model {name}: no such folder is here, but {near} is; asking the Hub"] if near else [])
    assert str(error.value).endswith(f"did you mean {near}?" if near else "check how it is spelt")


def test_one_that_the_hub_has_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, None)
    assert hub.path("owner/name") == "owner/name"
    assert hub.path("runs/classifier") == "runs/classifier"


@pytest.mark.parametrize("error", [ConnectionError("no network"), errors.OfflineModeIsEnabled("offline")])
def test_without_a_network_it_is_what_was_downloaded_or_one_quick_message(
    error: Exception, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, error)
    snapshot: list[Path] = []

    def downloaded(name: str, local_files_only: bool) -> str:
        if not snapshot:
            raise errors.LocalEntryNotFoundError("nothing")
        return str(snapshot[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", downloaded)
    began = time.perf_counter()
    with pytest.raises(
        ModelError, match=r"'owner/name'.*the Hub cannot be asked for it \((no network|offline)\); give"
    ):
        hub.path("owner/name")
    assert time.perf_counter() - began < 1
    snapshot.append(here)
    assert hub.path("owner/name") == str(here)
