"""Files behind URLs, through fsspec: tried again where a network fails, told at once where that would not help."""

from __future__ import annotations

import itertools
import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from cvg.common.errors import DataError, SettingsError, UserError
from cvg.common.files import MOST_JSON, full

T = TypeVar("T")

ATTEMPTS = 6
"""So many tries in a row may fail before it is told; with the waits between them, within a minute."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""
BLOCK = 8 << 20
"""Bytes of one read."""
_SILENT = 60
"""Seconds for which an http server may send nothing."""
_HOPELESS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
_NOBODY = frozenset(
    "NoCredentialsError PartialCredentialsError ProfileNotFound NoAuthTokenError UnauthorizedSSOTokenError "
    "SSOTokenLoadError DefaultCredentialsError ClientAuthenticationError CredentialUnavailableError".split()
)
"""What the packages of S3, Google and Azure call errors of who asks without saying who they are."""

_LOG = logging.getLogger(__name__)


def check_url(url: str) -> None:
    """Raise SettingsError unless a URL is of one kind of file system that fsspec knows, and is installed for."""
    import fsspec  # here, as sets of records in local folders do without

    protocol, _, rest = url.partition("://")
    if "::" in url or protocol not in fsspec.available_protocols() or not rest:
        raise SettingsError(f"shards {url}: no address of files; give a folder, or a URL such as s3://bucket/folder")
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        more = "pip install 'cvg[remote]'" if protocol in ("s3", "s3a") else str(error)
        raise SettingsError(f"shards {url}: needs a package that is not installed; {more}") from error


def local_path(place: str) -> str | None:
    """The path where a place is one of this machine: as it is written, or of a ``file://`` URL; None for other URLs."""
    protocol, found, rest = place.partition("://")
    if not found:
        return place
    return rest if protocol in ("file", "local") else None


def fetch_json(url: str) -> Any:
    """Read a JSON file behind a URL.

    Raises:
        DataError: it is missing, cannot be read, is too large, or is not JSON; the message names it.
    """
    data = read_url(url, lambda file: file.read(MOST_JSON + 1))
    if len(data) > MOST_JSON:
        raise DataError(f"{url}: has more than the {MOST_JSON} bytes of JSON that are read; write it again")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{url}: not valid JSON ({error}); write it again") from error


def files_behind(url: str) -> tuple[Any, str]:
    """The file system that a URL is of, and the path in it. It is made anew in each process: none survives a fork."""
    import fsspec

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=_SILENT)}
    files, path = fsspec.url_to_fs(url, **options)
    files.invalidate_cache()
    return files, path


def open_url(url: str, block: int = BLOCK) -> Any:
    """The file behind a URL, to be read."""
    files, path = files_behind(url)
    return files.open(path, "rb", block_size=block, cache_type="none")


def read_url(url: str, take: Callable[[Any], T]) -> T:
    """What is taken of the file behind a URL; tried again where that fails. Raises DataError like `wait_or_raise`."""

    def read() -> T:
        with open_url(url) as file:
            return take(file)

    return tried(url, read, "read")


def tried(url: str, action: Callable[[], T], done: Literal["read", "written"]) -> T:
    """What an action gives that reads or writes behind a URL; tried again where it fails. Raises as `wait_or_raise`."""
    for failures in itertools.count(1):
        try:
            return action()
        except UserError:
            raise
        except Exception as error:
            wait_or_raise(url, error, failures, done)
    raise AssertionError("it is tried until it is told")


def wait_or_raise(url: str, error: Exception, failures: int, done: Literal["read", "written"] = "read") -> None:
    """Wait before what failed is tried again.

    Args:
        url: what was read or written.
        error: why that failed.
        failures: how often in a row.
        done: which of the two it was.

    Raises:
        DataError: there is no sense in trying again, or it was tried often.
    """
    if full(error):  # our own disk: `atomic` tells
        raise error
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if _nobody(error):
        raise DataError(
            f"{url}: cannot be {done} ({reason}); give the credentials where its usual tools look for them, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://"
        ) from error
    if _hopeless(error):
        who = "read it" if done == "read" else "write there"
        raise DataError(f"{url}: cannot be {done} ({reason}); check the address, and who may {who}") from error
    if failures >= ATTEMPTS:
        raise DataError(
            f"{url}: cannot be {done} ({reason}), also not when it was tried {failures} times; check the network, and "
            "go on with the same command"
        ) from error
    _LOG.info("%s: could not be %s (%s); trying again", url, done, reason)
    time.sleep(FIRST_WAIT * 2 ** (failures - 1) * random.uniform(0.8, 1.2))


def _nobody(error: BaseException) -> bool:
    """Whether who asks has not said who they are, or not so that it can be checked."""
    return type(error).__name__ in _NOBODY


def _status(error: BaseException) -> int | None:
    """The number that a server answered with, wherever the packages for its protocol put it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for holder, name in ((error, "status"), (error, "status_code"), (response, "status_code"), (error, "code")):
        found = getattr(holder, name, None)
        if isinstance(found, int) or (isinstance(found, str) and found.isdigit()):
            return int(found)
    return None


def _hopeless(error: BaseException | None) -> bool:
    """Whether a server answered that there is no such file, or not for us, and will again."""
    if isinstance(error, FileNotFoundError) and type(error.__cause__).__module__.startswith("aiohttp"):
        return _hopeless(error.__cause__)  # fsspec says so of servers too that do not answer
    if error is not None and (status := _status(error)) is not None:
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, _HOPELESS)
