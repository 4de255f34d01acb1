"""SFTP's packets: what is in them, and that nothing which is none gets further than the reading of it."""

from __future__ import annotations

import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.tracking.sftp_packets import (
    Attributes,
    Code,
    ConnectionLostError,
    Fields,
    Packet,
    StatusError,
    expect,
    pairs,
    refuse,
    text,
)


@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9)), max_size=5))
def test_texts_come_back_in_order(written: list[tuple[str, bytes]]) -> None:
    data = b"".join(text(name.encode()) + text(value) for name, value in written)
    assert list(pairs(Fields(data))) == written


@pytest.mark.parametrize(
    ("data", "attributes"),
    [
        (struct.pack(">I", 0), Attributes()),
        (struct.pack(">IQ", 0x1, 2**40), Attributes(size=2**40)),
        (struct.pack(">II", 0x4, stat.S_IFDIR | 0o755), Attributes(mode=stat.S_IFDIR | 0o755)),
        (
            struct.pack(">IQIIIII", 0xF, 7, 1000, 1000, stat.S_IFREG | 0o644, 1, 1_700_000_000),
            Attributes(7, stat.S_IFREG | 0o644, 1_700_000_000),
        ),
        (struct.pack(">IQI", 0x80000001, 7, 1) + text(b"a") + text(b"b"), Attributes(size=7)),
    ],
)
def test_only_what_a_server_says_of_a_file_is_known(data: bytes, attributes: Attributes) -> None:
    fields = Fields(data + text(b"next"))
    assert fields.attributes() == attributes
    assert fields.text() == b"next"


def test_a_kind_that_is_not_said_is_neither_file_nor_folder() -> None:
    assert not Attributes(size=1).is_file
    assert not Attributes(size=1).is_folder
    assert not Attributes(mode=stat.S_IFLNK | 0o777).is_file


@given(st.integers(0, 255), st.binary(max_size=200))
def test_whatever_comes_is_read_or_ends_the_connection(kind: int, data: bytes) -> None:
    refused = None
    try:
        expect(Packet.ATTRS, kind, data).attributes()
    except StatusError as exc:
        refused = exc.code
    except ConnectionLostError:
        return
    assert kind in (Packet.ATTRS, Packet.STATUS)
    assert refused == (int.from_bytes(data[:4]) if kind == Packet.STATUS else None)


def status(code: int, *texts: bytes) -> bytes:
    return struct.pack(">I", code) + b"".join(text(t) for t in texts)


def test_a_refusal_bears_its_number_and_the_servers_words_if_there_are_any() -> None:
    with pytest.raises(StatusError, match=r"Permission denied \(SFTP 3\)") as caught:
        refuse(status(Code.PERMISSION_DENIED, b"Permission denied", b"en"))
    assert (caught.value.code, caught.value.text) == (3, "Permission denied")
    with pytest.raises(StatusError, match="no reason"):
        refuse(status(Code.FAILURE))  # of servers older than version 3
    with pytest.raises(StatusError, match="quota \ufffd"):
        refuse(status(Code.FAILURE, b"quota \xff"))


def test_success_and_an_end_that_is_waited_for_are_no_refusals() -> None:
    refuse(status(0, b"Success"))
    refuse(status(Code.EOF), unless=Code.EOF)
    with pytest.raises(StatusError):
        refuse(status(Code.EOF))
