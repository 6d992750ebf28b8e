"""The application as a whole: its pages, and how it is served."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cvg.application import html
from cvg.application.evaluation_page import EvaluationPage
from cvg.application.guide_page import GuidePage
from cvg.application.models import Models
from cvg.application.shards_page import ShardsPage
from cvg.classifier import CompositionClassifier
from cvg.common.errors import SettingsError
from cvg.evaluation.rows import Evaluation

TITLE = "Compositional video guidance"
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
MOST_WAITING: Final = 20
"""Videos that wait to be made; who comes later is told so."""
_DAY = 24 * 3600
_REFUSED = re.compile(
    r"/(upload|process_recording|component_server|run-history|runs|vibe|undo-vibe|dev|proxy=|file=\W*https?:)"
)
"""Routes of Gradio that these pages do not use: taking files, fetching from elsewhere, writing code."""


class Refusing:
    """Middleware that answers 404 for routes that the pages have no use for.

    Args:
        app: what answers everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and _REFUSED.search(scope["path"]):
            await PlainTextResponse("not found", 404)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def build(
    models: Models,
    folder: Path,
    prompt: str,
    steps: int,
    previews: int,
    shards: tuple[Path, CompositionClassifier | None] | None = None,
    evaluated: tuple[Evaluation, Path | None] | None = None,
) -> gr.Blocks:
    """The pages.

    Args:
        models: what can be chosen.
        folder: for files that are made; deleted by the caller.
        prompt: shown first.
        steps: denoising steps, at first.
        previews: how often latents are decoded to be shown, in a run.
        shards: folder of shards to look into, and the classifier that does, if any.
        evaluated: an evaluation to look at, and the folder of its videos, where they were kept.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")  # where Gradio copies files that are shown
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, _DAY)) as blocks:
        gr.Markdown(f"# {TITLE}")
        pages: list[Any] = []
        with gr.Tab("Make a video"):
            pages.append(GuidePage(models, folder / "made", prompt, steps, previews))
        if evaluated is not None:
            with gr.Tab("Evaluation"):
                pages.append(EvaluationPage(*evaluated))
        if shards is not None:
            with gr.Tab("Shards"):
                pages.append(ShardsPage(*shards))
        for page in pages:
            function, inputs, options = page.on_load
            blocks.load(function, inputs, **options)
    blocks.queue(max_size=MOST_WAITING)
    return blocks


def serve(blocks: gr.Blocks, host: str, port: int) -> str:
    """Serve the pages from a thread, until ``blocks.close()``.

    Args:
        blocks: see :func:`build`.
        host: address to listen on.
        port: to listen on.

    Returns:
        The address to open.

    Raises:
        SettingsError: nothing can listen there.
    """
    _require_free(host, port)
    fonts: dict[str, Sequence[str]] = {  # the browser's own: nothing is fetched
        "font": ("system-ui", "sans-serif"),
        "font_mono": ("ui-monospace", "monospace"),
    }
    _, url, _ = blocks.launch(
        server_name=host,
        server_port=port,
        theme=gr.themes.Base(**fonts),
        css=html.CSS,
        footer_links=[],
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        run_history=False,
        allowed_paths=[],
        max_file_size="1kb",
        app_kwargs={"middleware": [Middleware(Refusing)]},
    )
    blocks.allowed_paths = []  # whatever GRADIO_ALLOWED_PATHS says
    return url


def _require_free(host: str, port: int) -> None:
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"host {host}, port {port}: cannot be listened on ({reason}); choose another port, or an address of this "
            "machine"
        ) from error
