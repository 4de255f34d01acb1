"""An object store of a test, as what it stores to and what a client must know of it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from support import free_port

_GRPC = 10_000


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A running server.

    Attributes:
        artifact_location: Where an experiment may keep its artifacts.
        environ: What a client needs in its environment: credentials, endpoint.
        endpoint: The server's URL.
        read_only: As `environ`, for one who may read but not write; empty where the server knows no such.
        missing: An artifact location in a bucket that is not there.
    """

    artifact_location: str
    environ: Mapping[str, str]
    endpoint: str
    read_only: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


def moved(store: ObjectStore, endpoint: str) -> dict[str, str]:
    """The store's environment, with another endpoint."""
    protocol = f"DefaultEndpointsProtocol={endpoint.partition(':')[0]};"
    return {
        name: value.replace(store.endpoint, endpoint).replace("DefaultEndpointsProtocol=http;", protocol)
        for name, value in store.environ.items()
    }


def free_pair() -> int:
    """A free port whose number plus 10,000 is free too: SeaweedFS takes that one for gRPC."""
    for _ in range(200):
        port = free_port()
        lower = port - _GRPC
        if lower > 1024 and _is_free(lower):
            return lower
    raise AssertionError("no two free ports that far apart")


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
