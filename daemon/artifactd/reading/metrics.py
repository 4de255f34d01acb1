"""Metrics: a file's rows as points.

What it can be:

* **JSON lines**, or one object: numbers and truth values, nested keys joined by dots; text and lists say nothing.
* **A JSON document**: a list of objects, ``all_results.json``, a ``trainer_state.json`` (its ``log_history``).
* **CSV or TSV** with a header: Lightning's ``metrics.csv``, Ultralytics' ``results.csv``, Keras' ``training.csv``.
* **TensorBoard's event files**, by their name: ``artifactd.reading.events``.

The suffixes ``.csv``, ``.tsv``, ``.json``, ``.jsonl`` and ``.ndjson`` decide; for others a brace or bracket at the
start is JSON, and all else a table. ``artifactd.reading.moments`` says which column is the step and which the time.

Memory is bounded by one line or record (a JSON document by ``objects.MAX_DOCUMENT_BYTES``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from artifactd.reading.columns import from_columns
from artifactd.reading.events import from_events, is_event_file
from artifactd.reading.lines import Line, lines
from artifactd.reading.objects import from_document, from_lines, is_object
from artifactd.reading.points import Row
from artifactd.reading.problems import WHOLE, Unreadable

_TABLES = (b".csv", b".tsv")
_LINES = (b".jsonl", b".ndjson")


def read_metrics(stream: BinaryIO, name: bytes, folder: str = "", *, ended: bool = False) -> Iterator[Row]:
    """Read a file of metrics.

    Args:
        stream: The content from its start, buffered.
        name: The file's own name.
        folder: The one it has in the run; it is a part of an event file's keys.
        ended: Nothing will be added to it. Until then, a last line that may be a part of one is left for the next
            time, and a document that cannot be read is taken for one that is being written.

    Returns:
        Its whole rows, in order; the last one's ``number`` says how many. Rows without points, and those that
        cannot be read, count too.

    Raises:
        Unreadable: While iterating: it cannot be read on; or, at the end of a file that has ended, there was no
            number in it (an event file may hold pictures alone).
    """
    if is_event_file(name):
        yield from from_events(stream, folder, ended=ended)
        return
    told, first_problem = 0, ""
    row = None
    for row in _rows(stream, os.path.splitext(name)[1].lower(), ended=ended):
        told += len(row.points)
        if row.problems and not first_problem:
            first_problem = f" ({row.problems[0]})"
        yield row
    if ended and row is not None and not told:
        raise Unreadable(WHOLE, f"it holds no number to tell{first_problem}", "Write numbers under names")


def _rows(stream: BinaryIO, suffix: bytes, *, ended: bool) -> Iterator[Row]:
    more = lines(stream)
    first = next((line for line in more if line.text.strip()), None)
    if first is None:
        return
    if suffix in _TABLES or not (suffix in _LINES or suffix == b".json" or _begins_json(first)):
        yield from from_columns(first, more, suffix, ended=ended)
    elif suffix in _LINES or is_object(first):
        yield from from_lines(first, more, ended=ended)
    else:
        yield from from_document(first, stream, ended=ended)


def _begins_json(line: Line) -> bool:
    return line.text.lstrip().startswith(("{", "["))
