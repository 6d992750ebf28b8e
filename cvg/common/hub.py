"""Names of the small models that ship inside the package; every embedded world brings some."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from cvg.common.errors import ModelError, UserError

WORLDS: dict[str, str] = {"shapes-": "cvg.shapes"}
"""What a shipped model's name begins with -> the package in whose folder ``weights`` it lies."""

_LOG = logging.getLogger(__name__)
_NEAR = 0.8
"""From which likeness on two names are taken for one that is misspelt, of 1."""
_PATIENCE = 5.0
"""Seconds for which the Hub may be silent."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""The form of a Hub id, ``owner/name``."""


def weights(package: str) -> Path:
    """The folder of an embedded world's models. The world itself is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "weights"


def is_shipped_name(name: str) -> bool:
    """Whether a name begins like that of a shipped model, and is no path."""
    return name.startswith(tuple(WORLDS)) and "/" not in name


def shipped() -> list[str]:
    """The names of all models that ship."""
    return sorted(
        folder.name
        for prefix, package in WORLDS.items()
        for folder in weights(package).glob(f"{prefix}*")
        if folder.is_dir()
    )


def path(name: str, token: str | bool | None = None) -> str | Path:
    """Where a model lives: a shipped name stands for a folder inside the package, anything else for itself.

    Of a Hub id it is tried whether the Hub has it, so that a misspelt one is told of in a moment; where the Hub cannot
    be reached, it stands for what was downloaded of it before.

    Args:
        name: a shipped name (``shapes-wan``, ``shapes-clip``, ...), a local folder or a Hub id.
        token: who asks the Hub, as its client takes it; who is logged in when None.

    Raises:
        ModelError: it is neither: no such model ships, no such folder exists here, and it has not the form of a Hub id
            (``owner/name``), so that the Hub is not asked; or the Hub has none, or cannot be asked for it.
    """
    if is_shipped_name(name):
        package = next(package for prefix, package in WORLDS.items() if name.startswith(prefix))
        if (found := weights(package) / name).is_dir():
            return found
    if Path(name).expanduser().exists():
        return name
    if HUB_ID.fullmatch(name):
        return _on_hub(name, token)
    raise ModelError(
        f"model {name!r}: no such model ships with CVG, and no such folder is here; shipped: "
        f"{', '.join(shipped()) or 'none'}. Hub ids have the form owner/name"
    )


def _on_hub(name: str, token: str | bool | None) -> str:
    """The name, where the Hub has it; the folder of what was downloaded before, where the Hub cannot be reached."""
    from huggingface_hub import errors, model_info, snapshot_download  # only here: most names are no Hub ids

    near = like(name)
    hint = f"; did you mean {near}?" if near else ""
    if near:
        _LOG.warning("model %s: no such folder is here, but %s is; asking the Hub", name, near)
    try:
        model_info(name, timeout=_PATIENCE, token=token)
        return name
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"model {name!r}: no such folder is here, and the Hub has none of that name (or it is private, and you are "
            f"not logged in){hint or '; check how it is spelt'}"
        ) from error
    except errors.HfHubHTTPError:
        return name  # it answers: loading will tell
    except Exception as error:  # whatever its client raises where there is no network, or where it is switched off
        try:
            return snapshot_download(name, local_files_only=True)
        except (OSError, ValueError):
            reason = _reason(error)
        raise ModelError(
            f"model {name!r}: no such folder is here, and the Hub cannot be asked for it ({reason})"
            f"{hint or '; give a folder, or try again with a network'}"
        ) from error


def check_id(name: str) -> None:
    """Raise ModelError where a name is not that of a repository of the Hub."""
    if not HUB_ID.fullmatch(name):
        raise ModelError(f"repository {name!r}: not a Hub id; give owner/name")


@contextlib.contextmanager
def pushing(name: str) -> Iterator[None]:
    """Within it a repository of the Hub is made and written to; what goes wrong is told in one line.

    Args:
        name: ``owner/name``.

    Raises:
        ModelError: it has another form, or the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import errors

    check_id(name)
    try:
        yield
    except UserError:
        raise
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, errors.HFValidationError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = "log in with `hf auth login` as one who may write there" if status in (None, 401, 403) else "try again"
        raise ModelError(f"repository {name}: the Hub refuses it ({_reason(error)}); {remedy}") from error
    except Exception as error:  # whatever its client raises where there is no network
        reason = f"repository {name}: cannot be written to ({_reason(error)}); try again with a network"
        raise ModelError(reason) from error


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def like(name: str) -> str | None:
    """A model that ships, or a folder here, whose name is nearly this one; None where there is none.

    Args:
        name: ``owner/name``.
    """
    owner, last = name.split("/")
    nearly = get_close_matches(name.replace("/", "-"), shipped(), 1, _NEAR) or get_close_matches(
        last, shipped(), 1, _NEAR
    )
    if nearly:
        return nearly[0]
    folders: list[str] = []
    with contextlib.suppress(OSError):
        owners = [folder for folder in Path().iterdir() if folder.is_dir()]
        for folder in owners:
            if get_close_matches(owner, [folder.name], 1, _NEAR):
                folders += [f"{folder.name}/{inside.name}" for inside in folder.iterdir() if inside.is_dir()]
    return next(iter(get_close_matches(name, folders, 1, _NEAR)), None)
