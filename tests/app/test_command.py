"""The command that serves the pages: what it refuses, what it warns of, and that it works as it is shipped."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cvg import app
from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError
from cvg.common.files import write_json
from cvg.common.sizes import Size
from tests.helpers.servers import free_port


def test_without_gradio_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gradio" else found(name, *rest)
    )
    with pytest.raises(SystemExit) as ended:
        run(app.main, prog="python -m cvg.app", args=[])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: gradio is not installed") and "cvg[app]" in line


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"port": 0}, "port 0"),
        ({"port": 70_000}, "port 70000"),
        ({"steps": 0}, "steps 0"),
        ({"previews": -1}, "previews -1"),
        ({"videos": Path("videos")}, "give --evaluation"),
        ({"classifier": []}, "nothing to choose from"),
        ({"classifier": "rules"}, "give generator and size"),
    ],
)
def test_wrong_options_are_told_before_anything_is_served(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        app.main(**options)


def test_folders_without_what_they_should_have_are_told(
    classifier: str, evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"shards.json"):
        app.main(classifier, shards=tmp_path)
    with pytest.raises(DataError, match="none of this evaluation's there"):
        app.main(classifier, evaluation=evaluated[0], videos=tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        app.main(classifier, evaluation=tmp_path / "none.json")


def test_a_port_that_is_taken_is_told(classifier: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="cannot be listened on"):
            app.main(classifier, port=taken.getsockname()[1])


def started(*options: str) -> tuple[subprocess.Popen[str], str, int]:
    """The command as a user starts it at a terminal, and the line that it prints when it serves.

    There Ctrl-C reaches it. A job in the background ignores it, and so do the tests that run in one and all they start.
    """
    port = free_port()
    command = [sys.executable, "-m", "cvg.app", "--port", str(port), *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    return process, process.stdout.readline(), port


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_it_warns_of_addresses_that_others_reach(host: str, warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    app.tell("http://somewhere/", host)
    said = capsys.readouterr()
    assert said.out == "open http://somewhere/ (Ctrl-C ends it)\n"
    assert said.err.startswith(f"warning: host {host}: everybody who reaches this machine") == warned


@pytest.mark.slow
def test_it_listens_on_loopback_and_warns_where_it_is_told_otherwise(classifier: str) -> None:
    process, line, port = started("--classifier", classifier, "--host", "0.0.0.0")
    try:
        assert re.match(r"open http://\S+", line), process.communicate()[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        _, warned = process.communicate(timeout=60)
    assert process.returncode == 130
    assert warned.splitlines()[0].startswith("warning: host 0.0.0.0: everybody who reaches this machine")


def test_a_generator_that_needs_an_image_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    write_json(tmp_path / "model_index.json", {"_class_name": "WanImageToVideoPipeline"})
    with pytest.raises(SettingsError, match="makes videos of images"):
        app.main("rules", generator=str(tmp_path), size=Size(13, 64, 64))


def test_it_ends_whenever_it_is_interrupted(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()

    def interrupt(url: str, host: str) -> None:
        socket.create_connection((host, port), timeout=5).close()  # it is served
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "tell", interrupt)
    with pytest.raises(KeyboardInterrupt):
        app.main(classifier, port=port)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_by_default_only_this_machine_reaches_it(classifier: str) -> None:
    process, line, port = started("--classifier", classifier)
    try:
        assert line.startswith(f"open http://127.0.0.1:{port}/"), process.communicate()[1]
        others = {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
        for address in others - {"127.0.0.1"}:
            if not address.startswith("127."):
                with pytest.raises(OSError):
                    socket.create_connection((address, port), timeout=5).close()
        listening = Path("/proc/net/tcp").read_text() if Path("/proc/net/tcp").exists() else ""
        for entry in listening.splitlines()[1:]:
            local, state = entry.split()[1], entry.split()[3]
            if state == "0A" and local.endswith(f":{port:04X}"):
                assert local == f"0100007F:{port:04X}"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1].splitlines() == ["interrupted"]
