"""Datasets: the texts are the ones that MLflow writes for the same data in a data frame."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.data.pandas_dataset import from_pandas
from mlflow.types import Schema
from mlflow.utils import validation

from artifactd.reading import dataset as module
from artifactd.reading.dataset import Column, Shape, read_shape


def shape(text: bytes, name: bytes = b"train.csv") -> Shape:
    return read_shape(io.BytesIO(text), name)


@pytest.mark.parametrize(
    "text",
    [
        b"i,f,s,b\n1,1.5,x,True\n2,2,y,False\n",
        b"i,f,s,b\n1,,x,True\n,2,,False\n",
        b"a,,b\n1,2,3\n",
        b"e,n\n,nan\n,NA\n",
        b'"a ""q""",t\n1,"x\ny,z"\n\n2,"\n\n"\n',
        b"sci,neg\n1e5,-3\n2,+4\n",
    ],
)
def test_a_csv_file_is_described_as_mlflow_describes_its_data_frame(text: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's hint about integers
        wanted = from_pandas(pd.read_csv(io.BytesIO(text)), source="train.csv").to_dict()
    found = shape(text)
    assert (found.schema, found.profile) == (wanted["schema"], wanted["profile"])
    assert found.problems == ()


def test_other_separators_and_marks() -> None:
    assert shape(b"\xef\xbb\xbfa;b\n1;x\n").columns == (Column("a", "long", True), Column("b", "string", True))
    assert shape(b"a\tb,c\n1\tx\n", b"t.TSV").columns == (Column("a", "long", True), Column("b,c", "string", True))
    assert shape(b"a\xff\n1\n").columns[0].name == "a\ufffd"


def test_all_rows_are_counted_and_the_first_thousand_decide() -> None:
    found = shape(b"a\n" + b"1\n" * 1000 + b"x\n" * 500)
    assert found.rows == 1500
    assert found.columns == (Column("a", "long", True),)
    assert found.profile == '{"num_rows": 1500, "num_elements": 1500}'


@pytest.mark.parametrize("text", [b"", b"\n\n"])
def test_an_empty_file_has_no_shape(text: bytes) -> None:
    assert shape(text) == Shape()
    assert shape(b"a,b\n").rows == 0


def test_json_lines_are_counted() -> None:
    assert shape(b'{"a": 1}\n\n {"a": 2}\n{"a": 3}', b"d.jsonl") == Shape(profile='{"num_rows": 3}', rows=3)
    # A line that ends where a piece of the reading does.
    assert shape(b"x" * 1024 * 1024 + b"\ny\n", b"d.jsonl").rows == 2
    long = b'{"a": "' + b"x" * 3_000_000 + b'"}\n'
    assert shape(long * 3, b"d.ndjson").rows == 3
    assert shape(b"", b"d.jsonl").rows == 0


def test_other_files_have_no_shape() -> None:
    assert shape(b"\0", b"a.npz") == Shape()
    assert shape(b"[1]", b"a.json") == Shape()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'a\n"' + b"x" * 200_000 + b'"\n', "line 2: not CSV: field larger"),
        (b"a\n" + b"x" * (1024 * 1024 + 1), "line 2: it is longer than 1024 KiB"),
    ],
)
def test_what_cannot_be_counted_says_why(text: bytes, reason: str) -> None:
    found = shape(text)
    assert found.rows is None
    assert reason in str(found.problems[0])


def test_a_schema_that_mlflow_would_refuse_is_left_out_and_named() -> None:
    found = shape(",".join(f"column_{index:090}" for index in range(10_000)).encode() + b"\n1\n")
    assert found.schema is None
    assert found.profile == '{"num_rows": 1, "num_elements": 10000}'
    assert "MLflow takes 1048575" in str(found.problems[0])


def test_the_limits_are_those_of_the_mlflow_that_is_installed() -> None:
    assert module.MAX_SCHEMA_CHARACTERS == validation.MAX_DATASET_SCHEMA_SIZE
    assert module.MAX_PROFILE_CHARACTERS == validation.MAX_DATASET_PROFILE_SIZE


def parquet() -> bytes:
    frame = pd.DataFrame({"i": [1, 2], "f": [1.5, None], "s": ["a", None], "b": [True, False], "l": [[1], [2]]})
    frame["t"] = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    frame["i8"] = frame["i"].astype("int8")
    frame.index = pd.Index(["x", "y"])
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


def test_a_parquet_file_is_described_by_its_footer() -> None:
    found = shape(parquet(), b"train.parquet")
    assert found.rows == 2
    assert {column.name: column.type for column in found.columns} == {
        "i": "long",
        "f": "double",
        "s": "string",
        "b": "boolean",
        "l": "any",
        "t": "datetime",
        "i8": "integer",
    }
    assert found.profile == '{"num_rows": 2, "num_elements": 14}'
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), nullable=False)])), out)
    assert shape(out.getvalue(), b"a.pq").columns == (Column("a", "long", True),)


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_parquet_file_without_its_end_says_so(cut: int) -> None:
    found = shape(parquet()[:cut], b"train.parquet")
    assert "footer cannot be read" in str(found.problems[0])


def test_without_pyarrow_a_parquet_file_has_no_shape_and_nothing_else_loads_it() -> None:
    program = """
import io, sys
from artifactd.reading.dataset import Shape, read_shape
assert read_shape(io.BytesIO(b"a\\n1\\n"), b"a.csv").rows == 1
assert "pyarrow" not in sys.modules and "pandas" not in sys.modules and "mlflow" not in sys.modules
sys.modules["pyarrow"] = None
assert read_shape(io.BytesIO(b"PAR1"), b"a.parquet") == Shape()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@given(st.binary() | st.text('",;\n\r\t1ae.', max_size=60).map(str.encode), st.sampled_from([b"d.csv", b"d.tsv"]))
def test_any_table_gives_texts_that_mlflow_reads_or_a_sentence(data: bytes, name: bytes) -> None:
    found = read_shape(io.BytesIO(data), name)
    if found.schema is not None:
        fields = json.loads(found.schema)["mlflow_colspec"]
        assert Schema.from_json(json.dumps(fields)).to_dict() == fields
    assert (found.profile is None) == (found.rows is None)
    assert not any("\n" in str(problem) for problem in found.problems)


@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=20))
def test_rows_are_counted_as_csv_counts_them(body: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *body])
    found = shape(text.getvalue().encode("utf-8", "surrogatepass"))
    assert found.rows == len(body)


def test_mlflow_takes_the_dataset() -> None:
    found = shape(parquet(), b"train.parquet")
    entity = mlflow.entities.Dataset("train", "d" * 32, "local", "{}", found.schema, found.profile)
    validation._validate_dataset(entity)
    assert found.schema is not None
    assert Schema.from_json(json.dumps(json.loads(found.schema)["mlflow_colspec"])).input_names()[0] == "i"
