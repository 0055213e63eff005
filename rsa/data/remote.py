"""Reading of files on object storage, or on anything else that fsspec opens: s3://, gs://, https://, memory://, a plain path.

fsspec finds credentials and the server's address: for S3 in the environment or the AWS configuration files
(AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, ...). Transient errors are retried a few times; other errors become an
OSError that names the URL and says what to do.
"""

import errno
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import fsspec
from pydantic import AfterValidator

TRIES = 6
FIRST_PAUSE = 0.5  # seconds, then twice as long each time: 15.5 in all
STALLED = 30  # seconds without data from S3 before a timeout
# Only this module retries: five retries in botocore times five in s3fs would take an hour to notice a dead server.
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": STALLED, "retries": {"total_max_attempts": 1}}},
}
CREDENTIALS = (
    "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment, of somebody who may read it "
    "(docs/data.md)"
)
FULL = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")


def no_secret(url: str) -> str:
    """Return the URL; ValueError if it contains a password or signature."""
    if re.search(r"://[^/]*@|[?&][^=&]*(signature|token|sig)=", url, re.IGNORECASE):  # the message must not show it either
        raise ValueError("a URL must have no password or signature in it: credentials come from the environment")
    return url


URL = Annotated[str, AfterValidator(no_secret)]


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for `url` and the path on it. ValueError for an unknown or uninstalled protocol."""
    protocol = fsspec.utils.get_protocol(url)
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **OPTIONS.get(protocol, {}))
    except (ImportError, ValueError) as why:
        raise ValueError(f"{url} can't be opened: {why}") from None
    if protocol == "s3":
        filesystem.retries = 1
    return filesystem, path


def retried(url: str, action: Callable[[], T]) -> T:
    """Run an action on remote storage, with retries; errors name the URL. ValueError if it can never succeed."""
    pause = FIRST_PAUSE
    for left in reversed(range(TRIES)):
        try:
            return action()
        except FileNotFoundError:
            raise OSError(f"{url} must exist, got nothing there: put it there, or correct params.yaml") from None
        except (IsADirectoryError, NotADirectoryError):
            raise OSError(
                f"{url} must be a file, got a folder or a path through a file: name the files, as by FOLDER/*"
            ) from None
        except _refused() as why:
            raise OSError(f"{url} must be readable, got: {why}{CREDENTIALS * url.startswith('s3:')}") from None
        except _passing() as why:
            if isinstance(why, OSError) and why.errno in FULL:
                raise
            if not left:
                raise OSError(
                    f"{url} must be readable, got {TRIES} times in a row: {str(why) or type(why).__name__}; "
                    "check the network, the server and the object, then run again: it goes on where it was"
                ) from why
            time.sleep(pause)
            pause *= 2
    raise AssertionError("the last try returns or raises")


def download(url: str, path: Path) -> None:
    """Copy a file without retries; errors are the file system's own."""
    filesystem, name = filesystem_of(url)
    filesystem.get_file(name, str(path))


def _refused() -> tuple[type[Exception], ...]:
    from botocore.exceptions import (  # type: ignore[import-untyped]
        CredentialRetrievalError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    return (PermissionError, NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound)


def _passing() -> tuple[type[Exception], ...]:
    """Return the transient errors of networks, servers and interrupted copies."""
    from aiohttp import ClientError  # a quarter of a second to import
    from botocore.exceptions import BotoCoreError
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    return (OSError, BotoCoreError, ResponseParserError, ClientError)
