"""What a data file says of itself cheaply: its columns and how many rows it has.

The texts are MLflow's: ``mlflow.data.pandas_dataset.PandasDataset.to_dict`` writes a ``schema`` of
``{"mlflow_colspec": [{"type", "name", "required"}, …]}`` and a ``profile`` of ``{"num_rows", "num_elements"}``, and
``mlflow.utils.validation._validate_dataset`` limits them by ``MAX_DATASET_SCHEMA_SIZE`` and
``MAX_DATASET_PROFILE_SIZE``, in characters.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from artifactd.reading.columns import delimiter
from artifactd.reading.lines import lines
from artifactd.reading.problems import WHOLE, Problem, Unreadable

MAX_SCHEMA_CHARACTERS = 1_048_575
"""``MAX_DATASET_SCHEMA_SIZE``."""

MAX_PROFILE_CHARACTERS = 16_777_215
"""``MAX_DATASET_PROFILE_SIZE``."""

SAMPLE_ROWS = 1000
"""So many rows of a CSV file decide on its columns' types."""

_MISSING = frozenset(
    ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "<NA>")
)  # the usual ones of pandas
_TRUTH = frozenset(("True", "False", "TRUE", "FALSE", "true", "false"))
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Column:
    """A column as MLflow's ``ColSpec`` has it.

    Attributes:
        name: The column's.
        type: A name of ``mlflow.types.DataType``, or ``any``.
        required: It has a value in every row that was looked at.
    """

    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a data file; None where nothing is.

    Attributes:
        schema: MLflow's JSON text.
        profile: MLflow's JSON text.
        rows: Rows, the header not among them.
        columns: As in `schema`.
        problems: Why something is not known that could have been.
    """

    schema: str | None = None
    profile: str | None = None
    rows: int | None = None
    columns: tuple[Column, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_shape(stream: BinaryIO, name: bytes) -> Shape:
    """Look at a data file.

    Args:
        stream: The content from its start, buffered; a Parquet file's must be seekable.
        name: The file's own name: the suffix decides.

    Returns:
        ``.csv``, ``.tsv``: columns with the types that pandas would give to the first ``SAMPLE_ROWS`` rows, and the
        rows, counted in one pass. ``.jsonl``, ``.ndjson``: the rows. ``.parquet``, ``.pq``: all, from the footer, if
        pyarrow is installed. For others, and for what cannot be read, nothing.
    """
    suffix = os.path.splitext(name)[1].lower()
    try:
        if suffix in (b".csv", b".tsv"):
            return _table(stream, suffix)
        if suffix in (b".jsonl", b".ndjson"):
            return _shape((), _count_lines(stream))
        if suffix in (b".parquet", b".pq"):
            return _parquet(stream)
    except Unreadable as error:
        return Shape(problems=(error.problem,))
    return Shape()


def _shape(columns: tuple[Column, ...], rows: int) -> Shape:
    fields = [{"type": column.type, "name": column.name, "required": column.required} for column in columns]
    schema = json.dumps({"mlflow_colspec": fields}) if fields else None
    profile = json.dumps({"num_rows": rows, "num_elements": rows * len(columns)} if columns else {"num_rows": rows})
    if schema and len(schema) > MAX_SCHEMA_CHARACTERS:
        reason = f"its {len(columns)} columns make a schema of {len(schema)} characters"
        return Shape(None, profile, rows, columns, (Problem(WHOLE, f"{reason}; MLflow takes {MAX_SCHEMA_CHARACTERS}"),))
    return Shape(schema, profile, rows, columns)


def _table(stream: BinaryIO, suffix: bytes) -> Shape:
    number = 0

    def texts() -> Iterator[str]:
        nonlocal number
        for line in lines(stream):
            number = line.number
            yield line.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if line.broken else line.text

    text = texts()
    first = next((line for line in text if line.strip()), None)
    if first is None:
        return Shape()
    try:
        rows = (row for row in csv.reader(chain((first,), text), delimiter=delimiter(first, suffix)) if row)
        header = next(rows, [])
        sample = list(islice(rows, SAMPLE_ROWS))
        return _shape(tuple(_columns(header, sample)), len(sample) + sum(1 for _ in rows))
    except csv.Error as error:
        raise Unreadable(f"line {number}", f"not CSV: {error}") from None


def _columns(header: Sequence[str], sample: Sequence[Sequence[str]]) -> Iterator[Column]:
    for index, raw in enumerate(header):
        cells = [row[index] if index < len(row) else "" for row in sample]
        values = [cell.strip() for cell in cells if cell not in _MISSING]
        required = len(values) == len(cells)
        # pandas names a column so that has no name.
        yield Column(raw.strip() or f"Unnamed: {index}", _type(values, required=required), required)


def _type(values: Sequence[str], *, required: bool) -> str:
    if not values:
        return "string" if required else "double"
    if all(value in _TRUTH for value in values):
        return "boolean"
    if all(_WHOLE_NUMBER.fullmatch(value) for value in values):
        # A missing number makes floats of a column.
        return "long" if required else "double"
    return "double" if all(map(_is_number, values)) else "string"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return "_" not in value


def _count_lines(stream: BinaryIO) -> int:
    rows, has_text = 0, False
    while chunk := stream.read(_CHUNK):
        *ended, last = chunk.split(b"\n")
        for piece in ended:
            rows += has_text or bool(piece.strip())
            has_text = False
        has_text = has_text or bool(last.strip())
    return rows + has_text


def _parquet(stream: BinaryIO) -> Shape:
    # It may not be there, and takes half a second and 60 MB where it is.
    try:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        return Shape()
    try:
        file = pq.ParquetFile(stream)
        fields = [field for field in file.schema_arrow if not _PANDAS_INDEX.fullmatch(field.name)]
        columns = tuple(Column(field.name, _arrow_type(field.type, pa.types), not field.nullable) for field in fields)
        return _shape(columns, int(file.metadata.num_rows))
    except (pa.ArrowException, OSError):
        raise Unreadable(WHOLE, "its Parquet footer cannot be read", "Is it written to its end?") from None


def _arrow_type(kind: object, types: object) -> str:
    """The type that MLflow gives to what pandas makes of it."""
    for name, mlflow_name in _ARROW_TYPES:
        if getattr(types, f"is_{name}")(kind):
            return mlflow_name
    return "any"


_ARROW_TYPES = (
    ("boolean", "boolean"),
    *((name, "integer") for name in ("int8", "int16", "int32", "uint8", "uint16")),
    *((name, "long") for name in ("int64", "uint32")),
    *((name, "float") for name in ("float16", "float32")),
    ("float64", "double"),
    *((name, "string") for name in ("string", "large_string")),
    *((name, "binary") for name in ("binary", "large_binary", "fixed_size_binary")),
    *((name, "datetime") for name in ("timestamp", "date")),
)
