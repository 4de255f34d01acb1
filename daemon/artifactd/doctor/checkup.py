"""All checks, in the order in which a person would look: what is here, the disk, the kernel, the server, the stores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from artifactd.config import Config, ConfigError, WatchConfig
from artifactd.doctor import credentials, disk, host, journal, named, server, state, stores, versions
from artifactd.doctor.finding import Finding, Level, looked, notice, wrong
from artifactd.doctor.surroundings import Surroundings
from artifactd.errors import ArtifactdError
from artifactd.ledger import Report
from artifactd.ledger.report import holder
from artifactd.ledger.schema import FILE_NAME, VERSION, written_version
from artifactd.settings import experiments_of, watches_of
from artifactd.tracking.contact import THROUGH, Contact, contact
from artifactd.tracking.trial import Question

SURVEY = 10.0
"""Seconds in which folders are counted, all trees together."""


def examine(config: Config, around: Surroundings) -> Iterator[Finding]:
    """Look at everything.

    Args:
        config: What is configured.
        around: The host.

    Yields:
        One finding after the other, as they are made. Nothing is raised, and nothing is written but the
        object that tries a gateway before the server, which is removed.
    """
    with contextlib.ExitStack() as stack:
        report = report_of(config.state_dir)
        if report is not None:
            stack.callback(report.close)
        yield from _here(config, report, around)
        yield from _beyond(config, report, around)


def examine_without(error: ConfigError) -> Iterator[Finding]:
    """What can be said where the configuration cannot be used: each of its mistakes, and the versions."""
    for problem in error.problems:
        yield wrong("configuration", problem.reason, f"{problem.instead[:1].upper()}{problem.instead[1:]}")
    yield from looked("versions", versions.here)


def report_of(state_dir: Path) -> Report | None:
    """The ledger, if it is one of this version: a look must not bring another one forward."""
    with contextlib.suppress(ArtifactdError, OSError):
        if written_version(state_dir / FILE_NAME) == VERSION:
            return Report(state_dir)
    return None


def _here(config: Config, report: Report | None, around: Surroundings) -> Iterator[Finding]:
    """This host, by itself."""
    folder = config.state_dir
    yield from looked("versions", versions.here)
    yield from looked("service", partial(host.service, folder, around, config.source))
    yield from looked("state folder", partial(state.state_folder, folder, around))
    yield from looked("space for the ledger", lambda: state.space(folder, _known(report)))
    yield from looked("ledger", partial(state.ledger, folder))
    yield from looked("embedded store", partial(state.embedded_store, config))
    yield from looked("watched folders", lambda: _watched(config, report, around))
    yield from looked("journal", partial(journal.journal, config.log, around))
    yield from looked("[notify] and [metrics]", partial(named.named, config, around))
    for lacking in config.notices():
        yield notice("configuration", lacking.what, lacking.cure)


def _known(report: Report | None) -> int | None:
    return None if report is None else sum(report.totals().states.values())


def _watched(config: Config, report: Report | None, around: Surroundings) -> Iterator[Finding]:
    name = _holder(config.state_dir)
    watches: tuple[WatchConfig, ...] = watches_of(config, report)
    trees = disk.survey(watches, SURVEY)
    by_path = {tree.path: tree for tree in trees}
    for watch in watches:
        tree = by_path.get(os.fsencode(watch.path))
        yield from looked("watched folder", partial(disk.watched_folder, watch, tree, around))
    yield from looked("duplicate watches", partial(disk.duplicates, watches, in_use=name is not None))
    pid = host.pid_in(name or "")
    owner = None if pid is None else host.owner_of(pid, around.proc)
    uid = around.uid if owner is None else owner
    yield from looked("inotify", partial(host.inotify, trees, around, uid=uid, but=pid))


def _holder(state_dir: Path) -> str | None:
    with contextlib.suppress(OSError):
        return holder(state_dir)
    return None


def _beyond(config: Config, report: Report | None, around: Surroundings) -> Iterator[Finding]:
    """The server, the stores, and what the ledger says of deliveries to them."""
    broken = list(looked("credentials", partial(credentials.own_file, around)))
    yield from broken
    found = None
    if not server.is_asked(config):
        yield from looked("tracking store", partial(server.without, config))
    elif all(finding.level is not Level.WRONG for finding in broken):
        asked: list[Contact] = []
        yield from looked("tracking server", lambda: _asked(config, report, asked))
        found = asked[0] if asked else None
    if found is not None:
        for what, check in (
            ("versions of MLflow", server.versions), ("clock", server.clock), ("way", server.ways),
        ):  # fmt: skip
            yield from looked(what, partial(check, found))
        yield from looked("credentials", partial(credentials.of_server, found, around))
    schemes = _direct(config, found)
    yield from looked("clients", partial(versions.sdks, schemes))
    yield from looked("credentials", partial(stores.of, schemes, around))
    yield from looked("certificate", partial(credentials.named_certificates, around))
    yield from looked("secrets in files", partial(credentials.readable_by_others, config, around))
    if report is not None:
        in_use = _holder(config.state_dir) is not None
        yield from looked("deliveries", partial(state.deliveries, report, in_use=in_use))


def _asked(config: Config, report: Report | None, into: list[Contact]) -> Iterator[Finding]:
    known: tuple[str, ...] = ()
    with contextlib.suppress(Exception):  # a ledger that is damaged is told of by itself
        known = experiments_of(config, report)
    into.append(contact(Question(config.tracking_uri, None, config.mlflow.artifact_location, known)))
    yield from server.reached(into[0], config.tracking_uri)


def _direct(config: Config, found: Contact | None) -> set[str]:
    """Schemes of the stores that files go to directly, as far as they are known."""
    schemes = {way.scheme for way in found.ways} if found is not None else set()
    location = config.mlflow.artifact_location
    if location is not None:
        schemes.add(location.partition(":")[0].lower() if ":" in location and not location.startswith("/") else "file")
    return schemes - {*THROUGH, "file"}
