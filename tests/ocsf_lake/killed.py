"""A batch that ends amid its work, in the test's own process. With a real SIGKILL: `test_interrupted`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ocsf_lake.ingest import batch


class KilledError(BaseException):
    """As an interrupt, which is no fault of the batch."""


@contextmanager
def killed_at(step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is inside ends where a batch comes to a step, and fails the test when none comes there."""

    def die(failpoint: str, _: str) -> None:
        if failpoint == step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die)
        with pytest.raises(KilledError):
            yield
