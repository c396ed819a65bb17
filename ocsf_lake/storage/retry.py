"""Trying again what may go well the next time: throttled, timed out, cut off. Never what was refused for good."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import ParamSpec, TypeVar

from ocsf_mappers.errors import RetriableError

ATTEMPTS, CALL_ATTEMPTS = 10, 6
"""How often a batch, or a step of planning, is tried, so that a minute without a database or a store passes; and how
often one request."""
FIRST_SECONDS, MOST_SECONDS = 0.5, 30.0
"""Pauses double from the first one to the longest; each is cut by chance, down to half, so that workers spread out."""

sleep = time.sleep
"""Tests replace this."""

_FINAL = frozenset(
    [
        *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.EBADF),
        *(errno.ENOSYS, errno.ENOTEMPTY, errno.EMFILE, errno.ENOMEM),
    ]
)
"""Errors of an operating system or a store that trying again does not change."""
_NETWORK = ("aiohttp", "botocore", "urllib3")
"""Packages whose errors about connections are no OSError."""

P = ParamSpec("P")
R = TypeVar("R")


def pauses(attempts: int = ATTEMPTS) -> Iterator[float]:
    """Seconds to wait after each attempt but the last."""
    for number in range(attempts - 1):
        longest = min(MOST_SECONDS, FIRST_SECONDS * 2**number)
        yield random.uniform(longest / 2, longest)


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, RetriableError):
        return True
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError | PermissionError) and error.errno not in _FINAL
    package, name = type(error).__module__.partition(".")[0], type(error).__name__
    return package in _NETWORK and any(word in name for word in ("Connection", "Timeout", "Payload", "Disconnected"))


def call(do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function, again while that may help: a request, whose caller is tried again as well.

    Raises:
        RetriableError: It has not helped.
    """
    return _called(CALL_ATTEMPTS, do, *args, **kwargs)


def with_retries(do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function, again for as long as a batch would be tried: a step of what is too dear to begin anew.

    Raises:
        RetriableError: It has not helped.
    """
    return _called(ATTEMPTS, do, *args, **kwargs)


def _called(attempts: int, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    for pause in chain(pauses(attempts), (None,)):
        try:
            return do(*args, **kwargs)
        except Exception as error:
            if not may_pass(error):
                raise
            if pause is None:
                raise RetriableError(f"given up after {attempts} attempts: {error}") from error
            sleep(pause)
    raise AssertionError("the last attempt ended neither way")
