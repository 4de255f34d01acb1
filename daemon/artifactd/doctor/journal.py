"""The journal: how many lines of a service it keeps in which time, against how many artifactd writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from artifactd.config import LogConfig, format_duration
from artifactd.doctor.finding import Finding, notice, ok
from artifactd.doctor.surroundings import Surroundings

_SOCKET = "/run/systemd/journal/socket"
_FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
"""Where journald.conf(5) is looked for; a file of one folder goes before one of its name in a later one."""

_INTERVAL, _BURST = 30.0, 10_000
"""journald's own defaults: seconds, lines."""
_UNITS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "usec": 1e-6,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_FEW = 100
"""Lines a second: small files go faster than that, and each has its line."""

_DROP_IN = "/etc/systemd/system/artifactd.service.d"
_CURE = (
    f"mkdir -p {_DROP_IN} && printf '[Service]\\nLogRateLimitIntervalSec=0\\n' > {_DROP_IN}/journal.conf && systemctl "
    "daemon-reload && systemctl restart artifactd  # for this unit alone"
)


def journal(log: LogConfig, around: Surroundings) -> Iterator[Finding]:
    """Whether the journal would drop lines; nothing where systemd keeps none."""
    if not os.path.exists(around.below_root(_SOCKET)):
        return
    try:
        seconds, lines = rate_limit(around)
    except ValueError:
        yield notice(
            "journal", "its rate limit is written in a way that cannot be read here",
            "systemd-analyze cat-config systemd/journald.conf  # see RateLimitIntervalSec and RateLimitBurst",
        )  # fmt: skip
        return
    if not seconds or not lines:
        yield ok("journal", "its rate limit is off")
        return
    kept = f"it keeps {lines:,} lines of a service in {format_duration(seconds)}, unless the unit says otherwise,"
    if log.level == "debug":
        yield notice(
            "journal", f'{kept} and drops the others, and log.level = "debug" has a line for each file that is looked '
            "at anew, besides that for each file stored", f'{_CURE}; or set log.level = "info"',
        )  # fmt: skip
    elif lines / seconds < _FEW:
        yield notice("journal", f"{kept} and drops the others; each file stored has one", _CURE)
    else:
        yield ok("journal", f"{kept} and each file stored has one")


def rate_limit(around: Surroundings) -> tuple[float, int]:
    """Seconds and lines, as journald is configured; 0 in either means no limit.

    Raises:
        ValueError: What is configured cannot be read.
        OSError: A file cannot be.
    """
    settings: dict[str, str] = {}
    for file in _files(around):
        with open(file, encoding="utf-8", errors="replace") as stream:
            settings |= dict(_settings(stream.read()))
    # The older of the two names is still understood.
    interval = settings.get("RateLimitIntervalSec") or settings.get("RateLimitInterval")
    burst = settings.get("RateLimitBurst")
    return seconds_in(interval) if interval else _INTERVAL, int(burst) if burst else _BURST


def _files(around: Surroundings) -> list[str]:
    """The files that count, in the order in which later ones go before earlier ones."""
    mains = [around.below_root(f"{folder}/journald.conf") for folder in _FOLDERS]
    drop_ins: dict[str, str] = {}
    for folder in reversed(_FOLDERS):
        place = around.below_root(f"{folder}/journald.conf.d")
        if os.path.isdir(place):
            drop_ins |= {name: f"{place}/{name}" for name in os.listdir(place) if name.endswith(".conf")}
    return [*[file for file in mains if os.path.exists(file)][:1], *[drop_ins[name] for name in sorted(drop_ins)]]


def _settings(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Journal]" and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def seconds_in(text: str) -> float:
    """A length of time as systemd.time(7) has it, as ``1min 30s``; a bare number is seconds.

    Raises:
        ValueError: It is none, or has a unit of weeks or more.
    """
    parts = list(_SPAN.finditer(text.lower()))
    if "".join(part[0] for part in parts) != text.lower() or not parts or any(part[2] not in _UNITS for part in parts):
        raise ValueError("no length of time")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)
