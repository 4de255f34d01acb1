"""Until when certificates hold, by certificates that are really signed."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from artifactd.tracking.certificates import end_of, end_of_server, ends_in
from support import free_port

_PEM = serialization.Encoding.PEM


def made(end: datetime.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(end - datetime.timedelta(days=400))
    return builder.not_valid_after(end).sign(key, hashes.SHA256()), key


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2120])
def test_the_end_is_read_from_either_way_to_write_a_time(year: int) -> None:
    end = datetime.datetime(year, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
    assert end_of(made(end)[0].public_bytes(serialization.Encoding.DER)) == end.timestamp()


def test_a_text_may_hold_several_and_other_things() -> None:
    ends = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2030, 2040)]
    (first, key), (second, _) = map(made, ends)
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = (private + b"# a word\n" + first.public_bytes(_PEM) + second.public_bytes(_PEM)).decode()
    assert ends_in(text) == [end.timestamp() for end in ends]
    assert ends_in("nothing of the kind") == []


def test_what_is_none_is_refused() -> None:
    whole = made(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))[0].public_bytes(serialization.Encoding.DER)
    for data in (b"", b"\x30", b"\x30\x82\xff\xff", whole[:60], whole[:200], b"\x30\x06" * 30):
        with pytest.raises(ValueError, match=r"."):
            end_of(data)
    with pytest.raises(ValueError, match=r"."):
        ends_in("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")


@contextlib.contextmanager
def speaking_tls(folder: Path, end: datetime.datetime) -> Iterator[int]:
    certificate, key = made(end)
    file = folder / "server.pem"
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(_PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            raw, _ = listening.accept()
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as line:
                line.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


def test_a_server_s_is_read_though_it_has_ended_and_nobody_signed_it(tmp_path: Path) -> None:
    end = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    with speaking_tls(tmp_path, end) as port:
        assert end_of_server(f"https://user:hunter22@127.0.0.1:{port}/mlflow") == end.timestamp()


def test_where_there_is_none_nothing_is_said() -> None:
    port = free_port()
    assert end_of_server(f"http://127.0.0.1:{port}") is None
    assert end_of_server(f"https://127.0.0.1:{port}") is None
    assert end_of_server("https://127.0.0.1:port") is None
