"""A form of store as the conformance suite knows it: where it is, and a row of what it can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a team keeps its artifacts.

    Attributes:
        name: In the table.
        tracking_uri: The MLflow server, or database, that runs are made in.
        artifact_location: For experiments that are created; None where the server chooses.
        environ: What the service needs in its environment: credentials, endpoints.
        parts: Sizes in bytes at which an upload changes from one request to parts, or to one part more.
        checksum: What the store itself says of a content besides its size; "" for nothing.
        no_6_gib: Why no file of 6 GiB is sent to it; "" where it is.
        on_disk: The path in an artifact URI is one of this machine, and MLflow's own client cannot read the store.
    """

    name: str
    tracking_uri: str
    artifact_location: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    checksum: str = ""
    no_6_gib: str = ""
    on_disk: bool = False
