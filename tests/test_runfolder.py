"""Run folders: what ``artifactd.toml`` may say, and the sentence for what it may not."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artifactd.runfolder import (
    MARKERS,
    MAX_README_BYTES,
    Alive,
    RunSettings,
    RunSettingsError,
    Word,
    adopted_run_id,
    described_by,
    parse_settings,
    word_of,
)

RUN = "0123456789abcdef" * 2


def test_a_full_file() -> None:
    text = f"""
        run_id = "{RUN}"
        name = "Été #3"
        description = '''
            two
            lines'''
        [tags]
        team = "vision"
        "mlflow.user" = "ana"
        "git/branch name" = "main"
        [params]
        lr = 1e-3
        epochs = 1_000
        amp = true
        optimizer = "adam"
        "model.depth" = 18
    """
    assert parse_settings(text.encode()) == RunSettings(
        run_id=RUN,
        name="Été #3",
        description="            two\n            lines",
        tags=(("team", "vision"), ("mlflow.user", "ana"), ("git/branch name", "main")),
        params=(("lr", "0.001"), ("epochs", "1000"), ("amp", "True"), ("optimizer", "adam"), ("model.depth", "18")),
    )


@pytest.mark.parametrize("text", [b"", b"# nothing yet\n", b"\xef\xbb\xbf\r\n"])
def test_an_empty_file_asks_for_nothing(text: bytes) -> None:
    assert parse_settings(text) == RunSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = vision", "it is not TOML: Invalid value (at line 1"),
        ("name = 'a'\nname = 'b'", "it is not TOML: Cannot overwrite a value"),
        ("x = " + "[" * 30_000, "it is not TOML: it is nested too deeply"),
        ("[params]\nn = " + "9" * 5000, "it is not TOML: Exceeds the limit"),
        ("tgas = {}", "'tgas' is not a key of this file; did you mean 'tags'?"),
        ("Tags = {}", "did you mean 'tags'?"),
        ("zzz = 1", "it may have run_id, name, description, end_run, alive, tags, params"),
        ("name = 3", "name is a number: write a text in quotes"),
        ("run_id = true", "run_id is a truth value: write a text in quotes"),
        ("description = ['a']", "description is a list: write a text in quotes"),
        ("run_id = 'abc'", "run_id 'abc' is not a run's id: write its 32 lower-case hex digits"),
        (f"run_id = '{RUN.upper()}'", "is not a run's id"),
        ("name = ' '", "name must be 1 to 250 characters on one line, and not blank"),
        (f"name = '{'n' * 251}'", "name must be 1 to 250 characters"),
        ('name = "a\\nb"', "name must be 1 to 250 characters on one line"),
        (f"description = '{'d' * 8001}'", "description has 8001 characters; MLflow would cut it at 8000"),
        ('description = "a\\u0000"', "description has a NUL character"),
        ("tags = 'a'", "tags is a text: write a table, '[tags]' with 'key = \"value\"' lines below"),
        ("params = [1]", "params is a list: write a table"),
        ("tags.a = []", "[tags] 'a' is a list: write it in quotes"),
        ("tags.day = 2024-01-01", "[tags] 'day' is a date or time: write it in quotes"),
        ("[params]\nmodel.depth = 1", "[params] 'model' is a table: put a key with dots in quotes"),
        ("params.n = 0x" + "f" * 20_000, "[params] 'n' is a number of more than 64 bits"),
        (f"tags.a = '{'v' * 8001}'", "[tags] 'a' has 8001 characters; MLflow would cut it at 8000: put it into a file"),
        (f"params.a = '{'v' * 6001}'", "[params] 'a' has 6001 characters; MLflow would cut it at 6000"),
        (f"tags.{'k' * 251} = ''", "[tags] has a key of 251 bytes; MLflow takes 250"),
        (f"tags.'{'é' * 126}' = ''", "[tags] has a key of 252 bytes"),
        ("tags.'' = ''", "[tags] '': MLflow takes letters, digits"),
        ("tags.'a,b' = ''", "[tags] 'a,b': MLflow takes letters, digits"),
        ("tags.'a//b' = ''", "no folder steps"),
        ("params.'../a' = ''", "no folder steps"),
        ("params.'/a' = ''", "no folder steps"),
        ("params.'.' = ''", "no folder steps"),
        ("[tags]\n" + "\n".join(f"t{n} = ''" for n in range(101)), "[tags] has 101 tags; MLflow takes at most 100"),
        ("tags.'artifactd.key' = ''", "begin with 'artifactd.' are artifactd's own"),
        ("tags.'mlflow.runName' = 'x'", 'write name = "…" at the top instead'),
        (
            "tags.'mlflow.parentRunId' = 'x'",
            "[tags] 'mlflow.parentRunId' steers MLflow itself; allowed are mlflow.note",
        ),
        ("description = 'a'\ntags.'mlflow.note.content' = 'b'", "is the description, which is given already"),
        ("#" * (64 * 1024 + 1), "it is longer than 64 KiB"),
    ],
)
def test_what_cannot_be_kept_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(RunSettingsError) as refused:
        parse_settings(text.encode())
    assert sentence in str(refused.value)


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(RunSettingsError, match=r"it is not UTF-8 text \(byte 8\)"):
        parse_settings(b"name = '\xff'")


def test_the_limits_themselves_are_allowed() -> None:
    tags = "\n".join(f"t{n} = ''" for n in range(99))
    text = f"name = '{'n' * 250}'\n[tags]\n{'k' * 250} = '{'v' * 8000}'\n{tags}\n[params]\na = '{'v' * 6000}'"
    settings = parse_settings(text.encode())
    assert len(settings.tags) == 100
    assert parse_settings(b"#" * (64 * 1024)) == RunSettings()
    assert parse_settings(b"[params]\nn = -9223372036854775808").params == (("n", "-9223372036854775808"),)


# Pieces of TOML, so that many examples get past its grammar.
pieces = st.sampled_from(
    [
        "run_id",
        "name",
        "tags",
        "params",
        " = ",
        "'a'",
        '"\\u0000"',
        "1",
        "1.5",
        "true",
        "[",
        "]",
        "{",
        "}",
        "\n",
        ".",
        "#",
    ]
)


@given(st.binary(max_size=200) | st.lists(pieces, max_size=20).map(lambda some: "".join(some).encode()))
@example(b"[tags]\n'\x7f' = 1")
def test_any_file_gives_settings_or_a_sentence(text: bytes) -> None:
    try:
        settings = parse_settings(text)
    except RunSettingsError:
        return
    assert all(isinstance(part, str) for pair in settings.tags + settings.params for part in pair)


@pytest.mark.parametrize(
    ("folder", "run_id"),
    [
        (RUN.encode(), RUN),
        (RUN.upper().encode(), None),
        (RUN.encode() + b"0", None),
        (RUN.encode() + b"\n", None),
        (RUN.encode()[1:], None),
        ("٣".encode() * 32, None),
        (b"\xff" * 32, None),
        (b"", None),
    ],
)
def test_a_folder_named_by_a_run_id_is_that_run(folder: bytes, run_id: str | None) -> None:
    assert adopted_run_id(folder) == run_id


def test_markers_end_a_run() -> None:
    assert dict(MARKERS) == {b".done": "FINISHED", b"_SUCCESS": "FINISHED", b".failed": "FAILED"}


@pytest.mark.parametrize(
    ("readme", "description"),
    [
        (b"# Title\n\ntext\n", "# Title\n\ntext"),
        (b"\xef\xbb\xbfmarked", "marked"),
        (b"", None),
        (b" \n\n", None),
        (b"a\x00b\xff", "a\ufffdb\ufffd"),
        (b"x" * 5000, "x" * 5000),
    ],
)
def test_a_readme_as_a_description(readme: bytes, description: str | None) -> None:
    assert described_by(readme) == description


@pytest.mark.parametrize("size", [5001, MAX_README_BYTES + 1])
def test_a_long_readme_says_where_the_rest_is(size: int) -> None:
    description = described_by(b"x" * size)
    assert description is not None
    assert len(description) <= 5000
    assert description.endswith("*README.md among the artifacts has the rest.*")


@pytest.mark.parametrize(
    ("markers", "status", "reason"),
    [
        ({b".done": b""}, "FINISHED", ""),
        ({b".done": b"0\n"}, "FINISHED", ""),
        ({b"_SUCCESS": b"all 3 epochs\n"}, "FINISHED", ""),
        ({b".done": b"1\n"}, "FAILED", "exit code 1"),
        ({b"_SUCCESS": b" -9 \nmore"}, "FAILED", "exit code -9"),
        ({b".failed": b""}, "FAILED", ".failed stands in the run folder"),
        ({b".failed": b"0\n"}, "FAILED", "exit code 0"),
        ({b".failed": b"137\n"}, "FAILED", "exit code 137"),
        ({b".failed": b"\n\nCUDA out of memory\ntrace"}, "FAILED", "CUDA out of memory"),
        ({b".failed": b"a\x1b[31mb\xff"}, "FAILED", "a [31mb\ufffd"),
        ({b".done": b"", b".failed": b"boom"}, "FAILED", "boom"),
        ({b".done": b"2", b"_SUCCESS": b""}, "FAILED", "exit code 2"),
        ({b".failed": b"x" * 5000}, "FAILED", "x" * 250),
        ({b".done": b"1" * 2000}, "FINISHED", ""),
    ],
)
def test_a_marker_says_how_the_run_has_ended(markers: dict[bytes, bytes], status: str, reason: str) -> None:
    assert word_of(markers) == Word(status, reason)


def test_without_a_marker_nothing_has_ended() -> None:
    assert word_of({}) is None
    assert word_of({b"done": b"1"}) is None


def test_what_says_that_a_job_lives() -> None:
    said = parse_settings(b'end_run = true\n[alive]\npid = 12\npid_file = "a/p"\nlock = "l"\nheartbeat = "h"\n')
    assert (said.end_run, said.alive) == (True, Alive(12, "a/p", "l", "h"))
    assert (RunSettings().end_run, RunSettings().alive) == (False, Alive())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('end_run = "yes"', "end_run is a text: write true or false"),
        ("alive = 3", "alive is a number: write a table"),
        ("[alive]\npidfile = 'x'", "'pidfile' is not a key of [alive]; did you mean 'pid_file'?"),
        ("[alive]\npid = 0", "[alive] pid is no process id"),
        ("[alive]\npid = true", "[alive] pid is no process id"),
        ("[alive]\npid = '12'", "[alive] pid is no process id"),
        ("[alive]\nlock = '/run/lock'", "[alive] lock names no file of the run folder"),
        ("[alive]\nheartbeat = '../r2/heartbeat'", "[alive] heartbeat names no file of the run folder"),
        ("[alive]\npid_file = 7", "[alive] pid_file names no file of the run folder"),
        ("[alive]\npid_file = ''", "[alive] pid_file names no file of the run folder"),
    ],
)
def test_a_sign_of_life_that_cannot_be_looked_for_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RunSettingsError, match=re.escape(reason)):
        parse_settings(text.encode())
