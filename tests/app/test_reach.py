"""What the pages do not show cannot be had from the server either."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.app.conftest import Served

ROOT = Path(__file__).parents[2]


def fetched(url: str, data: dict[str, Any] | None = None) -> tuple[int, bytes]:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "gradio_api/file/", "static/", "assets/"])
@pytest.mark.parametrize("how", ["absolute", "relative", "encoded", "doubled"])
def test_no_file_is_given_but_those_that_are_shown(served: Served, route: str, how: str) -> None:
    for path in (served.folder / "secret.txt", served.folder / "evaluation.json", ROOT / "pyproject.toml"):
        told = {
            "absolute": str(path),
            "relative": "../" * 20 + str(path).lstrip("/"),
            "encoded": quote("../" * 20 + str(path).lstrip("/"), safe=""),
            "doubled": f"{served.made}/cache/{'../' * 20}{str(path).lstrip('/')}",
        }
        status, text = fetched(served.url + route + (told[how] if how == "encoded" else quote(told[how])))
        assert status in (403, 404, 405) and path.read_bytes()[:40] not in text


@pytest.mark.parametrize(
    "route",
    [
        "gradio_api/upload",
        "upload",
        "gradio_api/proxy=http://127.0.0.1/",
        "gradio_api/file=http://127.0.0.1/",
        "gradio_api/file=%68ttp%3A//127.0.0.1/",
        "gradio_api/component_server",
        "gradio_api/vibe-edit",
    ],
)
def test_routes_that_no_page_uses_are_closed(served: Served, route: str) -> None:
    assert fetched(served.url + route)[0] == 404
    assert fetched(served.url + route, {})[0] == 404


def called(served: Served, function: str, data: list[Any]) -> str:
    """What the server says when one of its functions is called by hand, as a page's script does."""
    config = json.loads(fetched(f"{served.url}config")[1])
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == function)
    session = {"fn_index": number, "session_hash": "by-hand", "data": data}
    status, text = fetched(f"{served.url}gradio_api/queue/join", session)
    if status != 200:
        return text.decode()
    with urllib.request.urlopen(f"{served.url}gradio_api/queue/data?session_hash=by-hand", timeout=60) as events:
        return "".join(line.decode() for line in events)


PATHS = ["/etc/passwd", "../../secret.txt", {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, -1, 10**9]


@pytest.mark.parametrize("value", PATHS)
def test_a_case_and_a_record_are_no_paths(served: Served, value: Any) -> None:
    for function, data in (("on_case", [value]), ("on_record", ["val", value]), ("on_record", [value, "x"])):
        told = called(served, function, data)
        assert "root:" not in told and "a secret" not in told
        assert "data:video" not in told and "data:image" not in told


def test_a_model_that_is_not_offered_is_not_loaded(served: Served) -> None:
    data = [None, "a red circle moving up", str(served.folder), "classifier", 0, 1, *[None] * 18]
    told = called(served, "on_make", data)
    assert "process_completed" in told and '"success": false' in told.replace('"success":false', '"success": false')


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    from cvg.application.evaluation_page import inside

    folder, secret = tmp_path / "videos", tmp_path / "secret.mp4"
    (folder / "guided").mkdir(parents=True)
    secret.write_bytes(b"secret")
    (folder / "guided" / "link.mp4").symlink_to(secret)
    (folder / "guided" / "own.mp4").write_bytes(b"own")
    assert inside(folder, "guided", "own.mp4") is not None
    assert inside(folder, "guided", "link.mp4") is None
    assert inside(folder, "guided", "../../secret.mp4") is None
    assert inside(folder, "guided", str(secret)) is None
