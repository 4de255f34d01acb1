"""Names: decoding gives every name back, different names stay different, and MLflow carries what comes out."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse, urlunparse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artifactd.names import decode_path, encode_component, encode_path, encode_text, join_path, versioned
from support import tree

if TYPE_CHECKING:
    from conftest import MlflowServer

# What escapes, markers and MLflow's special cases are made of, so that their edges meet often.
TOKENS = (
    [b"_", b"x", b"_x", b"_x_", b"x_", b"_x4", b"_x41", b"_x41_", b"41_", b"1_", b"_x5F_", b"_x2", b"A", b"F", b"4"]
    + [b"#", b"?", b"%", b"%2F", b"%25", b"\\", b" ", b"  ", b";", b":", b"file:", b"C:", b"http:", b".", b".."]
    + [b".artifact.uploading.", b"~", b"x~", b"_x~", b"\n", b"\t", b"\x7f", b"\xff", b"\xc3", b"\xa9"]
    + ["\u00e9".encode(), "e\u0301".encode(), "\x85".encode(), "\u2028".encode(), "\uffff".encode(), "🎉".encode()]
    + [b"a" * 120, b"#" * 50, b"\xff" * 51, b"_x" * 40]
)
tricky = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=12).map(b"".join)
anything = st.binary(min_size=1, max_size=255).map(lambda name: re.sub(rb"[\0/]", b"\xfe", name))
names = (tricky | anything).filter(lambda name: name not in {b".", b".."})
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)


@given(names)
@example(b"#" + b"a" * 246 + b"_x4" + b"1_")
def test_decoding_gives_the_name_back(name: bytes) -> None:
    assert decode_path(encode_component(name)) == name


@given(paths)
@example(b"logs/logs")
@example(b"#/#")
def test_decoding_gives_the_path_back(rel: bytes) -> None:
    assert decode_path(encode_path(rel)) == rel


@pytest.mark.parametrize(
    "rel", [b"artifactd", b"artifactd/manifest.json", b"artifactd/manifest.json/deep", b"artifactd/a"]
)
def test_nothing_of_the_users_gets_into_our_own_folder(rel: bytes) -> None:
    encoded = encode_path(rel)
    assert encoded.startswith("_x61_rtifactd")
    assert decode_path(encoded) == rel
    assert encode_path(b"deep/" + rel) == "deep/" + rel.decode(), "at the top alone"


@given(st.sets(tricky, min_size=2, max_size=30))
def test_different_names_stay_different(some: set[bytes]) -> None:
    assert len({encode_component(name) for name in some}) == len(some)
    assert len({encode_text(name) for name in some}) == len(some)


def survives_mlflow(component: str) -> bool:
    """Do what ``mlflow.utils.uri._decode`` and the listing do to a name on its way."""
    return urlunparse(urlparse(unquote(component))) == component and urlparse(component).scheme == ""


@given(names)
@example(b"..".rjust(254, b"#"))
@example(b".artifact.uploading.:")
@example(b"\xff" * 49 + b"a" * 6 + b" .artifact.uploading.")
def test_every_piece_is_a_name_that_mlflow_carries(name: bytes) -> None:
    *heads, last = encode_component(name).split("/")
    assert all(head.endswith("_x_") for head in heads)
    assert not last.endswith("_x_")
    for piece in (*heads, last):
        assert 0 < len(piece.encode()) <= 255
        assert piece not in {".", ".."}
        assert piece == piece.strip(" ")
        assert not piece.startswith(".artifact.uploading.")
        assert not set("#?%\\").intersection(piece)
        assert all(unicodedata.category(character) not in {"Cc", "Zl", "Zp"} for character in piece)
        assert survives_mlflow(piece)


@pytest.mark.parametrize(
    "name",
    [
        "model.pkl", ".hidden", "...", "-x", "~x", "two words", "a_b_x.txt", "_x4g_", "_x4", "_xab_", "_X41_",
        "12:30:00",        "a_b:c", "a;b", "a+b&c=d", "[x]", "{x}", "'q'", '"dq"', "$x", "a|b", "<a>", "*", "^`!@(),",
        "naïve.txt", "nai\u0308ve.txt", "日本.csv", "🎉.png", "\u00a0x", "events.out.tfevents.1.host.1.0", "a" * 255,
    ],
)  # fmt: skip
def test_what_mlflow_carries_stays_readable(name: str) -> None:
    assert encode_component(name.encode()) == name


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        (b"loss#1.png", "loss_x23_1.png"),
        (b"100%?", "100_x25__x3F_"),
        (b"back\\slash", "back_x5C_slash"),
        (b"a\nb\tc\x7f", "a_x0A_b_x09_c_x7F_"),
        ("a\x85b\u2028c".encode(), "a_xC2__x85_b_xE2__x80__xA8_c"),
        (b"caf\xe9", "caf_xE9_"),
        (b" x ", "_x20_x_x20_"),
        (b" ", "_x20_"),
        (b"a;", "a_x3B_"),
        (b"file:x:y", "file_x3A_x:y"),
        (b"c:", "c_x3A_"),
        (b"2024T1:2", "2024T1_x3A_2"),
        (b".artifact.uploading.1", "_x2E_artifact.uploading.1"),
        (b"_x41_", "_x5F_x41_"),
        (b"_x41", "_x5F_x41"),
        (b"end_x_", "end_x_x5F_"),
        (b"#x_", "_x23_x_x5F_"),
        (b"a" * 256, "a" * 252 + "_x_/aaaa"),
        (b"\xff" * 60, "_xFF_" * 50 + "_x_/" + "_xFF_" * 10),
        (("é" * 127 + "#").encode(), "é" * 126 + "_x_/é_x23_"),
        (b"a" * 252 + b"....", "a" * 252 + "_x_/...."),
        (b"#" * 50 + b"..", "_x23_" * 50 + ".."),
        (b"#" * 51 + b".", "_x23_" * 50 + "_x_/_x23_."),
    ],
)
def test_what_mlflow_cannot_carry_is_escaped(name: bytes, encoded: str) -> None:
    assert encode_component(name) == encoded
    assert decode_path(encoded) == name


def test_a_file_named_like_its_folder_gets_a_level_between() -> None:
    assert encode_path(b"logs/logs") == "logs/_x_/logs"
    assert encode_path(b"logs/logs/a") == "logs/logs/a"
    assert join_path("", b"plots") == "plots"
    assert join_path("a/plots", b"plots") == "a/plots/_x_/plots"


@given(st.text(st.characters(blacklist_categories=[]), max_size=40))
def test_decoding_takes_any_text(text: str) -> None:
    assert isinstance(decode_path(text), bytes)


@given(st.text(string.ascii_letters + " #%.é/", max_size=40))
def test_text_that_was_never_encoded_comes_back_as_its_bytes(text: str) -> None:
    assert decode_path(text) == text.encode()


@given(names)
@example(b"\xff" * 255)
def test_texts_fit_the_database(name: bytes) -> None:
    text = encode_text(name)
    assert 0 < len(text) <= 250
    assert all(unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"} for character in text)


def test_texts_change_no_more_than_they_must() -> None:
    assert encode_text("Été #3, 100% \\ 🎉 ".encode()) == "Été #3, 100% \\ 🎉 "
    assert encode_text(b"a\nb\xff_x41_x~") == "a_x0A_b_xFF__x5F_x41_x_x7E_"
    assert encode_text(b"a" * 250) == "a" * 250
    first, second = encode_text(b"a" * 254 + b"b"), encode_text(b"a" * 255)
    assert first != second
    assert len(first) == 250
    assert first.startswith("a" * 215 + "_x~")


def test_no_name_can_pass_for_a_cut_text() -> None:
    cut = encode_text(b"a" * 210 + b"\x01" * 45)
    assert re.search(r"_x~[0-9a-f]{32}\Z", cut)
    for forged in (cut, decode_path(cut).decode(), cut.replace("_x~", "\x01x~")):
        assert encode_text(forged.encode()) != cut


NASTY = [
    "ha#sh.txt", "loss#1.png", "loss#2.png", "what?.txt", "?", "#", "%", "pct%20x", "%2F", "%2e%2e", "100%", "a%b",
    "back\\slash", "..\\up", "tab\tx", "new\nline", "\r", "bell\x07", "del\x7f", "c1\x85x", "ls\u2028x", "ps\u2029x",
    " lead", "trail ", " ", "   ", "two  words", "nbsp\u00a0", "a;", ";", "a;b;", "a;b", "file:x", "file:", "C:", "c:x",
    "Http:x", "http:x", "Opt:125m", "12:30:00.log", "data:,x", ".artifact.uploading.x", "...", ".hidden", "-x", "~x",
    "_x41_", "_x_", "x_", "a_x_", "_x23_", "\u00e9", "e\u0301", "日本.csv", "🎉", "\u200bzero", "\ufeffbom", "\uffff",
    "A", "a", "[x]", "{x}", "a+b&c=d", "'q'", '"dq"', "<a>|*", "n" * 255, "é" * 127, "#" * 255,
]  # fmt: skip
NASTY_BYTES = [name.encode() for name in NASTY] + [b"caf\xe9", b"\xff", b"\xff" * 255, b"\xc3"]


@pytest.mark.live
def test_a_real_server_carries_every_name(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client = MlflowClient(mlflow_server.uri)
    experiment = client.create_experiment("names")
    run = client.create_run(experiment).info
    repository = get_artifact_repository(run.artifact_uri, tracking_uri=mlflow_server.uri)
    # Each as a file beside all others, and alone in a folder of the same name.
    expected = {rel: b"<" + rel for name in NASTY_BYTES for rel in (name, b"in/" + name + b"/" + name)}
    for number, (rel, content) in enumerate(expected.items()):
        folder, _, name = encode_path(rel).rpartition("/")
        local = tmp_path / "up" / str(number) / name
        local.parent.mkdir(parents=True)
        local.write_bytes(content)
        repository.log_artifact(str(local), folder or None)

    listed = {}
    folders: list[str | None] = [None]
    while folders:
        for info in repository.list_artifacts(folders.pop()):
            if info.is_dir:
                folders.append(info.path)
            else:
                listed[decode_path(info.path)] = info.file_size
    assert listed == {rel: len(content) for rel, content in expected.items()}

    down = tmp_path / "down"
    down.mkdir()
    client.download_artifacts(run.run_id, "", str(down))
    for root in (down, mlflow_server.artifact_root / experiment / run.run_id / "artifacts"):
        assert {decode_path(os.fsdecode(path)): content for path, content in tree(root).items()} == expected


@pytest.mark.live
def test_a_real_server_keeps_experiments_and_runs_apart(
    mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server.uri)
    some = [
        b"caf\xe9",
        b" lead",
        b"lead",
        b"trail ",
        b"a\nb",
        b"#?%\\",
        b"_x0A_",
        b"\xff" * 255,
        b"x" * 255,
        b"E",
        b"e",
    ]
    ids = {client.create_experiment("t-" + encode_text(name)): encode_text(name) for name in some}
    assert len(ids) == len(some)
    for experiment, text in ids.items():
        found = client.get_experiment_by_name("t-" + text)
        assert found is not None
        assert found.experiment_id == experiment
        run = client.create_run(experiment, run_name=text)
        assert client.get_run(run.info.run_id).info.run_name == text


@pytest.mark.parametrize(
    ("leaf", "second"),
    [
        ("model.pkl", "model_v2.pkl"), ("a.b.c", "a.b_v2.c"), ("data.tar.gz", "data_v2.tar.gz"), ("noext", "noext_v2"),
        (".hidden", ".hidden_v2"), (".tar.gz", ".tar_v2.gz"), ("trailing.", "trailing_v2."),
    ],
)  # fmt: skip
def test_versions_have_names_of_their_own(leaf: str, second: str) -> None:
    assert versioned(leaf, 2) == second


@given(st.binary(min_size=1, max_size=60), st.integers(2, 99))
def test_a_versions_name_still_decodes_to_the_name_with_its_number(name: bytes, number: int) -> None:
    name = name.replace(b"/", b"-").replace(b"\0", b"-") + b"z.bin"
    path = encode_path(name)
    folder, slash, leaf = path.rpartition("/")
    assert decode_path(f"{folder}{slash}{versioned(leaf, number)}") == name.replace(b"z.bin", b"z_v%d.bin" % number)
