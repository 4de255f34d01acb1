"""``mask`` under attack: nothing secret comes through, nothing innocent is lost, no text makes it slow."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactd import secrets
from artifactd.secrets import is_secret_name, mask, mask_event

MASKED = [
    # URL passwords
    ("http://user:hunter2@host:5000/path", "http://user:***@host:5000/path"),
    ("postgresql+psycopg2://mlflow:hunter2@db/mlflow", "postgresql+psycopg2://mlflow:***@db/mlflow"),
    ("sftp://user:p%40ss%2Fword@host/dir", "sftp://user:***@host/dir"),
    ("http://user:p@ss:w0rd@host:5000/a@b", "http://user:***@host:5000/a@b"),
    ("http://ann@corp.example:hunter2@host/", "http://ann@corp.example:***@host/"),
    ("http://:hunter2@host/", "http://:***@host/"),
    ("http://user%3Ahunter2@host/", "http://user%3A***@host/"),
    ("http://user:hunter2%40host/", "http://user:***%40host/"),
    ("http://user:pa/ss?w#rd@host/", "http://user:***@host/"),
    ("http://user:pa//ss@host/", "http://user:***@host/"),
    ("""http://user:pa"ss'wd@host/""", "http://user:***@host/"),
    ("http://user:pa://wd@host/", "http://user:***@host/"),
    ("http://user:pa%3A%2F%2Fwd@host/", "http://user:***@host/"),
    ("see //user:hunter2@host/x", "see //user:***@host/x"),
    ("http:\\/\\/user:hunter2@host\\/x", "http:\\/\\/user:***@host\\/x"),
    ("?next=http%3A%2F%2Fuser%3Ahunter2%40host%2Fx&a=b%40c", "?next=http%3A%2F%2Fuser%3A***%40host%2Fx&a=b%40c"),
    ("http://a:one@h,http://b:two@h", "http://a:***@h,http://b:***@h"),
    ('{"uri":"http://a:one@h","mail":"ann@example"}', '{"uri":"http://a:***@h","mail":"ann@example"}'),
    # queries
    ("/c/b?sv=2024&se=2026-01-01&sp=rw&sig=aB%2Bc%3D", "/c/b?sv=2024&se=2026-01-01&sp=rw&sig=***"),
    ("?token=abc&x=1", "?token=***&x=1"),
    ("?access_token=abc&x=1", "?access_token=***&x=1"),
    ("?api_key=abc&x=1", "?api_key=***&x=1"),
    ("?key=AIzaabc&x=1", "?key=***&x=1"),
    (
        "?X-Amz-Credential=AKIA%2F2026&X-Amz-Date=1&X-Amz-Security-Token=t%2F&X-Amz-Signature=ff",
        "?X-Amz-Credential=***&X-Amz-Date=1&X-Amz-Security-Token=***&X-Amz-Signature=***",
    ),
    ("?X-Goog-Signature=ff&x=1", "?X-Goog-Signature=***&x=1"),
    ("?x%3D1%26token%3Dabc", "?x%3D1%26token%3D***"),
    # headers
    ("Authorization: Bearer abc.def", "Authorization: ***"),
    ("authorization: basic dXNlcjpwYXNz\nHost: h", "authorization: ***\nHost: h"),
    ("Authorization: AWS4-HMAC-SHA256 Credential=A/b, Signature=ff", "Authorization: ***"),
    ("{'Authorization': 'Bearer abc', 'Host': 'h'}", "{'Authorization': '***', 'Host': 'h'}"),
    ("[('Authorization', 'Bearer abc'), ('Host', 'h')]", "[('Authorization', '***'), ('Host', 'h')]"),
    ("Proxy-Authorization: Basic abc", "Proxy-Authorization: ***"),
    ("Set-Cookie: session=abc; Path=/", "Set-Cookie: ***"),
    ("X-Api-Key: abc", "X-Api-Key: ***"),
    ("sent Bearer abcdef123456 to h", "sent Bearer *** to h"),
    # connection strings
    (
        "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=a+b/c==;EndpointSuffix=core",
        "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=***;EndpointSuffix=core",
    ),
    ("BlobEndpoint=https://h/;SharedAccessSignature=sv=2024&sig=abc&se=1;A=b", "BlobEndpoint=https://h/;SharedAccessSignature=***;A=b"),
    ("Endpoint=sb://h/;SharedAccessKey=abc=;E=f", "Endpoint=sb://h/;SharedAccessKey=***;E=f"),
    # keys and values
    ("aws_secret_access_key = wJalr/K7MDENG+b", "aws_secret_access_key = ***"),
    ("aws_session_token=abc", "aws_session_token=***"),
    ('{"SecretAccessKey": "a/b", "Expiration": 1}', '{"SecretAccessKey": "***", "Expiration": 1}'),
    ('{"secret": "a\\"b", "x": 1}', '{"secret": "***", "x": 1}'),
    ('{\\"secret\\": \\"a b\\", \\"x\\": 1}', '{\\"secret\\": \\"***\\", \\"x\\": 1}'),
    ("{'client_secret': b'abc', 'x': 1}", "{'client_secret': b'***', 'x': 1}"),
    ("Config(password='a b', user='u')", "Config(password='***', user='u')"),
    ("headers['token'] = 'abc'", "headers['token'] = '***'"),
    ("password: hunter2", "password: ***"),
    ('"password": 123456', '"password": ***'),
    # by look
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY----- end", "*** end"),
    ("a -----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNz-cut", "a ***"),
    ("-----BEGIN EC PRIVATE KEY-----\nDEK-Info: AES-128-CBC,1\n\nab\n-----END EC PRIVATE KEY-----", "***"),
    ("https://ghp_abcdefghij0123456789@host/x", "https://***@host/x"),
    ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2ln back", "got *** back"),
]  # fmt: skip

INNOCENT = [
    "Delivered run=r1 path=a/b.png bytes=12 seconds=0.4",
    "http://host:5000/files/ann@example.com",
    "http://[::1]:5000/files/ann@example.com",
    "sftp://ann@host:5000/x@y",
    "sftp://ann@host/dir",
    "abfss://container@account.dfs.core.windows.net/dir",
    "s3://bucket/a:b@c",
    "file:///data/a:b@c",
    "git@host:repo",
    "max_tokens=512 tokenizer=bpe num_tokens: 3",
    "AWSAccessKeyId=AKIA123",
    "design=good signal=9",
    "monkey=1 keyboard: 2",
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "Basic authentication is needed",
    "the secretary and her password",
]


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_masks_secrets_and_nothing_else(text: str, expected: str) -> None:
    assert mask(text) == expected
    assert mask(expected) == expected


@pytest.mark.parametrize("text", INNOCENT)
def test_leaves_innocent_texts_alone(text: str) -> None:
    assert mask(text) == text


# --- by value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_SECRETS", "Some_Key",
     "AZURE_STORAGE_CONNECTION_STRING"],
)  # fmt: skip
def test_masks_the_environments_secrets_wherever_they_occur(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "geh/eim \"& 'é"
    monkeypatch.setenv(name, value)
    spelled = [value, quote(value, safe=""), quote_plus(value), json.dumps(value), repr(value)]
    for text in spelled:
        assert "eim" not in mask(f"x{text}y")
    monkeypatch.setenv(name, "another")
    assert mask("it is another") == "it is ***"
    monkeypatch.delenv(name)
    assert mask("it is another") == "it is another"


def test_contract_the_environment_is_a_dict_behind_its_interface() -> None:
    assert type(os.environb._data) is dict  # type: ignore[attr-defined]
    assert os.environb._data == dict(os.environb)  # type: ignore[attr-defined]


def test_an_environment_without_that_dict_is_read_by_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environb", {b"SOME_TOKEN": b"a-secret"})
    assert mask("it is a-secret") == "it is ***"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["ghp_", "gho_", "github_pat_", "glpat-", "hf_", "dapi", "AIza", "eyJ", "a" * 40, ".", " "])
    )
)
def test_no_token_is_passed_over_by_the_quick_look(parts: list[str]) -> None:
    text = "".join(parts)
    assert secrets._may_hold_token(text) or not secrets._TOKEN.search(text)


def test_keeps_short_values_places_and_ordinary_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_TOKEN", "short")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/identity")
    monkeypatch.setenv("DB_PASSWORD_FILE", "/run/database")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsely")
    monkeypatch.setenv("SOME_PASSWORD", "******")
    text = "short /run/identity /run/database falsely *********"
    assert mask(text) == text


def test_masks_the_longer_of_two_values_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdefghij")
    assert mask("<abcdefghij>") == "<***>"


# --- attacks -----------------------------------------------------------------------------------------------------

WORD = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=8, max_size=24)
PLAIN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", min_size=8, max_size=40)


@settings(deadline=None)
@given(secret=WORD)
def test_no_password_comes_through_a_quoting(secret: str) -> None:
    secret = f"Qx7{secret}7xQ"
    carriers = {
        f"failed: http://user:{quote(secret, safe='')}@host:5000/a@b": quote(secret, safe=""),
        json.dumps({"user": "u", "password": secret, "x": 1}): json.dumps(secret)[1:-1],
        json.dumps(json.dumps({"client_secret": secret})): json.dumps(json.dumps(secret)[1:-1])[1:-1],
        repr({"user": "u", "token": secret}): repr(secret)[1:-1],
        f"?a=1&sig={quote_plus(secret)}&se=2": quote_plus(secret),
        f"A=b;AccountKey={base64.b64encode(secret.encode()).decode()};C=d": base64.b64encode(secret.encode()).decode(),
        f"Authorization: Basic {secret}": secret,
    }
    for text, spelled in carriers.items():
        masked = mask(text)
        assert spelled not in masked
        assert "Qx7" not in masked
        assert "7xQ" not in masked
        assert mask(masked) == masked


ODD = "abcXYZ019:%!$&()*+,;=~._-"


@settings(deadline=None)
@given(
    user=PLAIN.filter(lambda u: not is_secret_name(u)),
    password=st.text(ODD + "@", min_size=3, max_size=20) | st.text(ODD + "/?#", min_size=3, max_size=20),
)
def test_no_raw_password_comes_through_a_url(user: str, password: str) -> None:
    # The letters at both ends keep it from being a port, which no reader could tell apart.
    masked = mask(f"cannot reach http://{user}:Qx7{password}7xQ@host:5000/path")
    assert masked == f"cannot reach http://{user}:***@host:5000/path"


FRAGMENTS = [
    "//", "http://", "u:", "p@", "@h", ":", "%3A", "%40", "%2F%2F", "/", "?", "#", "&", ";", ",", " ", "\n", "=", "%3D",
    '"', "'", "\\", '\\"', "token=", "password: ", '"secret": "', "sig=", "key=", "SharedAccessSignature=",
    "Authorization: ", "cookie=", "Bearer ", "Basic a=", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
    "-----BEGIN ", "-", "eyJabcdefgh.", "eyJ", "ghp_", "abcdefghij0123456789", "***", "s3cr3t value", "\udcff",
    "é", "}", "[",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=30))
def test_is_idempotent(parts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SECRET", "s3cr3t value")
        once = mask("".join(parts))
        assert mask(once) == once
        assert "s3cr3t value" not in once


def test_masks_what_masking_has_joined() -> None:
    # Once the quoted text is masked, no space parts the '@' from the URL any more.
    assert mask('//user:pw;token="a b"@host') == "//user:***@host"


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=[])))
def test_never_raises(text: str) -> None:
    assert isinstance(mask(text), str)


LONG = 100_000
"""Characters. A quadratic expression needs minutes for it, a linear one some 20 ms."""


HOSTILE = [
    "a", "//a:", "://a:b@", "http://a:b//", "token", "token" + " " * 20, "token\\", "password='\\'", "sig=&",
    "Bearer a", "Bearer aaaaaaa ", "eyJa.", "-----BEGIN A", "%2F%2Fa%3A", "'a", "a:1", "://[", "\\/\\/a:",
]  # fmt: skip


@pytest.mark.parametrize("unit", FRAGMENTS + HOSTILE)
def test_is_linear_for_hostile_texts(unit: str) -> None:
    for text in ((unit * LONG)[:LONG], "http://a:" + (unit * LONG)[:LONG], "token='" + (unit * LONG)[:LONG]):
        begun = time.process_time()
        mask(text)
        assert time.process_time() - begun < 3


def test_masks_a_megabyte_in_which_the_environments_secret_nearly_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "a" * 5_000 + "b")
    begun = time.process_time()
    assert len(mask("a" * 1_000_000)) == 1_000_000
    assert time.process_time() - begun < 3


# --- events ------------------------------------------------------------------------------------------------------


def test_masks_an_event_at_any_depth_and_leaves_the_original() -> None:
    event: dict[str, Any] = {
        "event": "Reached http://u:geheim@h",
        "bytes": 12,
        "path": b"/data/?token=geheim\xff",
        "password": "geheim",
        "options": {"api_key": ["geheim"], "urls": [("http://u:geheim@h", {"http://u:geheim@h": 1.5})], "tokens": 3},
        "has_token": True,
        "secret": None,
    }
    masked = mask_event(None, "info", event)
    assert masked == {
        "event": "Reached http://u:***@h",
        "bytes": 12,
        "path": b"/data/?token=***",
        "password": "***",
        "options": {"api_key": "***", "urls": [["http://u:***@h", {"http://u:***@h": 1.5}]], "tokens": 3},
        "has_token": True,
        "secret": None,
    }
    assert event["password"] == "geheim"
    assert event["options"]["api_key"] == ["geheim"]


def test_masks_what_is_nested_without_end() -> None:
    endless: list[Any] = ["http://u:geheim@h"]
    endless.append(endless)
    masked = mask_event(None, "info", {"event": "x", "value": endless})
    assert "geheim" not in repr(masked)


@pytest.mark.parametrize(
    "name", ["token", "API_KEY", "aws_secret_access_key", "db.password", "Authorization", "private-key", "sig"]
)
def test_knows_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["key", "artifactd.key", "run", "max_tokens", "path", "design", "access_key_id"])
def test_knows_ordinary_names(name: str) -> None:
    assert not is_secret_name(name)


def test_a_user_without_a_password_in_a_web_address_is_a_token() -> None:
    assert mask("see https://abcdef@host/x, then") == "see https://***@host/x, then"
    assert mask("sftp://user@host/x") == "sftp://user@host/x"
    assert mask("https://host/a@b") == "https://host/a@b"
