"""The tracking server: whether it answers, its clock, its version, and the way that files take."""

from __future__ import annotations

from collections.abc import Iterator

from artifactd import installation
from artifactd.config import Config
from artifactd.doctor import words
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.errors import ArtifactdError
from artifactd.secrets import mask
from artifactd.tracking.contact import PROBE, Contact
from artifactd.tracking.environment import require_engine
from artifactd.tracking.reasons import release
from artifactd.tracking.way import RAISE_LIMIT

_DRIFT, _SKEW = 30.0, 300.0
"""Seconds: what is worth knowing, and what Kerberos and many tokens refuse. S3 and Azure refuse 15 minutes."""


def is_asked(config: Config) -> bool:
    """Whether there is a server that ``contact`` can ask."""
    return config.tracking_uri.startswith(("http://", "https://"))


def without(config: Config) -> Iterator[Finding]:
    """What is to be said where there is no such server."""
    where = "the embedded store" if config.embedded else mask(config.tracking_uri)
    try:
        require_engine(config.tracking_uri)
    except ArtifactdError as exc:
        yield wrong("tracking store", exc.problem, exc.cure)
        return
    yield ok("tracking store", f"{where}: there is no server to ask; `artifactd check` tries it")


def reached(found: Contact, uri: str) -> Iterator[Finding]:
    """Whether it answers as an MLflow server, and what to mind of the connection."""
    if found.error:
        yield wrong("tracking server", found.error, found.cure)
    else:
        took = f" in {1000 * found.seconds:,.0f} ms" if found.seconds is not None else ""
        yield ok("tracking server", f"{mask(uri)} answers{took}; `artifactd check` proves the way to a store and back")
    for caution in found.warnings:
        yield notice("connection", caution.what, caution.cure)


def versions(found: Contact) -> Iterator[Finding]:
    """The versions of client and server, one beside the other."""
    if found.error:
        return
    if found.server is None:
        yield notice(
            "versions of MLflow", f"{found.client} here; the server does not tell its own (those of old do not, and "
            "gateways may hide it)", "Have the gateway let /version through, or see `mlflow --version` on the server",
        )  # fmt: skip
        return
    both = f"{found.client} here, {found.server} on the server"
    here, there = release(found.client), release(found.server)
    if there < here:
        yield notice("versions of MLflow", f"{both}: it does not know the calls that came since", "Update the server")
    elif there[:1] > here[:1]:
        yield notice(
            "versions of MLflow", f"{both}: it may not know calls that went since",
            str(installation.here().newer()),
        )  # fmt: skip
    else:
        yield ok("versions of MLflow", both)


def clock(found: Contact) -> Iterator[Finding]:
    """This host's clock against the server's."""
    if found.error:
        return
    if found.ahead is None:
        yield notice("clock", "the server's answers tell no time to compare it with", "timedatectl status")
        return
    how = f"the server's is {words.length(found.ahead)} {'ahead of' if found.ahead > 0 else 'behind'} this host's"
    cure = "timedatectl set-ntp true  # on the one that is wrong: timedatectl status on both shows it"
    if abs(found.ahead) > _SKEW:
        yield wrong("clock", f"{how}: signed requests, tokens and certificates are refused for it", cure)
    elif abs(found.ahead) > _DRIFT:
        yield notice("clock", how, cure)
    else:
        yield ok("clock", f"as the server's, to within {words.length(max(1.0, abs(found.ahead)))}")


def ways(found: Contact) -> Iterator[Finding]:
    """The way that files take to each store that is known, and what is between."""
    for way in found.ways:
        what = f"way to {way.where}"
        yield from (notice(what, f"{way.how}. Mind: {caution.what}", caution.cure) for caution in way.warnings)
        if not way.warnings:
            yield ok(what, way.how)
    if not found.through:
        return
    size = f"{PROBE / 2**20:.0f} MiB"
    if found.refuses is None and found.sent is None:
        yield notice(
            "gateway", f"whether a body of {size} is taken could not be learnt: requests go by a proxy of this host, "
            "or what answers does not look at the length first", "artifactd check  # then try one big file",
        )  # fmt: skip
    elif found.sent is not None and found.sent.ok:
        how = f"in {found.sent.seconds:.1f} s ({found.sent.detail})"
        yield ok("gateway", f"a body of {size} was sent through it and came back, {how}")
    elif found.sent is not None and found.sent.what == "run":
        yield notice("gateway", f"a body of {size} could not be tried: {found.sent.detail}", found.sent.cure)
    elif found.sent is not None:
        yield wrong("gateway", f"a body of {size} did not get through: {found.sent.detail}", found.sent.cure)
    elif found.refuses:
        yield wrong(
            "gateway", f"what stands before the server refuses a body of {size} (413)",
            RAISE_LIMIT,
        )  # fmt: skip
    else:
        yield ok("gateway", f"a body of {size} was announced, and would be taken")
    if found.parts is None:
        yield ok("multipart", "the server offers none: a file goes in one request, and as a whole if sent again")
    else:
        yield ok("multipart", f"from {words.size(found.parts)} on")
