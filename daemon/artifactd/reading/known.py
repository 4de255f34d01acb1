"""Names by which other rooms know what is read here: commands that read nothing need no reader for them."""

from __future__ import annotations

from importlib.util import find_spec

STATE = "metrics:trainer"
"""The role of a ``trainer_state.json``, of transformers."""

RESULTS = "metrics:results"
"""The role of ``train_results.json`` and its like."""

MARK = b"tfevents"
"""TensorBoard reads files with this in their names, and no others."""

EXTRA = "tensorboard"
"""What brings the reader of event files."""

_MODULE = "google_crc32c"


def is_installed() -> bool:
    """Whether what reads event files is there: the extra ``tensorboard``."""
    return find_spec(_MODULE) is not None
