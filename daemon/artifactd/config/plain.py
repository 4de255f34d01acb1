"""pydantic without the plugins that other packages bring."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_VARIABLE = "PYDANTIC_DISABLE_PLUGINS"


@contextlib.contextmanager
def without_plugins() -> Iterator[None]:
    """Have models that are made in this block do without; the environment is afterwards as it was."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
