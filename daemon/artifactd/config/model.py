"""What can be configured: every key with its type, its default and the rules for its value alone.

What keys must not be together (overlapping folders) is for ``load``, which knows where each value came from.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_state_path
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from artifactd.config.models import Alias, RegisteredName, VersionTags, check_folder, check_kept, check_registered
from artifactd.config.notices import notices
from artifactd.config.notify import NotifyConfig
from artifactd.config.presets import check_names
from artifactd.config.problems import Mistake, shown
from artifactd.config.timetable import Timetable, format_limit, is_timetable, parse_timetable
from artifactd.config.units import format_duration
from artifactd.config.uris import check_artifact_location, check_tracking_uri, embedded_uri
from artifactd.config.values import AbsolutePath, Duration, Period, Table, Until, size
from artifactd.excludes import LayoutError
from artifactd.globs import check_glob
from artifactd.layout import parse_template

DEFAULT_EXCLUDE = (
    "**/*.tmp",
    "**/*.part",
    "**/*.partial",
    "**/*.crdownload",
    "**/*.swp",
    "**/*~",
    "**/.~lock.*",
    "**/.nfs*",
    "**/.tmp*",
    "**/tmp-checkpoint-*",
    "**/__pycache__/",
    "**/.ipynb_checkpoints/",
    "**/.git/",
)
DEFAULT_LIVE = ("**/events.out.tfevents.*", "**/*.log")

_MOST_WORKERS = 64
_LONGEST_NAME = 500  # MLflow's MAX_EXPERIMENT_NAME_LENGTH
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d{1,5})", re.ASCII)


def default_state_dir() -> Path:
    """The user's XDG state folder, as ``~/.local/state/artifactd``."""
    return user_state_path("artifactd", appauthor=False)


def _limit(value: Any, info: ValidationInfo) -> int | Timetable:
    if isinstance(value, Timetable):
        return value
    if value == "off":
        return 0
    return parse_timetable(value) if is_timetable(value) else size(value, info)


def _workers(value: Any) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST_WORKERS:
        raise Mistake(f"{shown(value)} is no number of workers", f'write "auto" or a number from 1 to {_MOST_WORKERS}')
    return number


def _layout(value: str) -> str:
    try:
        parse_template(value)
    except LayoutError as error:
        raise Mistake(str(error), 'write folder levels joined by "/", as "{experiment}/{run}"') from None
    return value


def _glob(value: str) -> str:
    if (wrong := check_glob(value)) is not None:
        raise Mistake(
            f"the pattern {shown(value)} cannot be used: {wrong}", 'write it as in a .gitignore, as "**/*.tmp"'
        )
    return value


def _positive_glob(value: str) -> str:
    if value.startswith("!"):
        raise Mistake(
            f"the pattern {shown(value)} is an exception, which only exclude can have",
            f"write {shown(value[1:])}, or move it to exclude",
        )
    return _glob(value)


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise Mistake("the list is empty, so nothing would be delivered", 'write ["**"] for everything')
    return value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _constant(value: str) -> str:
    if not value.strip():
        raise Mistake("the name is empty", 'write a name, as "vision"')
    if len(value) > _LONGEST_NAME:
        raise Mistake(f"the name has {len(value)} characters", f"write at most {_LONGEST_NAME}, MLflow's limit")
    return value


def _artifact_path(value: str) -> str:
    if value != "." and ("\0" in value or not {"", ".", ".."}.isdisjoint(value.split("/"))):
        raise Mistake(
            f"{shown(value)} is no folder below the run's root",
            'write names joined by "/", as "plots/train", or "." for the root itself',
        )
    return value


def _listen(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise Mistake(f"{shown(value)} is no address", 'write host and port, as "127.0.0.1:9464" or "[::1]:9464"')
    return value


Limit = Annotated[int | Timetable, PlainValidator(_limit), PlainSerializer(format_limit, when_used="json")]
Glob = Annotated[str, AfterValidator(_positive_glob)]
Name = Annotated[str, AfterValidator(_constant)]


class MlflowConfig(Table):
    """``[mlflow]``: where runs are tracked, and where new experiments keep their artifacts."""

    tracking_uri: Annotated[str, AfterValidator(check_tracking_uri)] | None = Field(
        default=None, examples=["http://mlflow:5000"]
    )
    artifact_location: Annotated[str, AfterValidator(check_artifact_location)] | None = Field(
        default=None, examples=["s3://bucket/path"]
    )


with warnings.catch_warnings():
    # pydantic means `ABCMeta.register`, which nobody calls on a table of the configuration.
    warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)

    class RouteConfig(Table):
        """``[[watch.route]]``: where some of a run's files go, and what they are."""

        match: Glob = Field(examples=["*.png"])
        artifact_path: Annotated[str, AfterValidator(_artifact_path)] | None = Field(default=None, examples=["plots"])
        kind: Literal["artifact", "model", "dataset", "params", "metrics", "tags"] = "artifact"
        context: Name | None = Field(default=None, examples=["training"])
        register: RegisteredName | None = Field(default=None, validate_default=True, examples=["classifier"])
        aliases: tuple[Alias, ...] = Field(default=(), examples=[["champion"]])
        tags: VersionTags = Field(default={}, examples=[{"team": "vision"}])

        @field_validator("kind")
        @classmethod
        def _keeps_its_place(cls, value: str, info: ValidationInfo) -> str:
            check_folder(value, info.data.get("artifact_path"))
            return value

        @field_validator("register", "aliases", "tags")
        @classmethod
        def _is_of_a_model(cls, value: Any, info: ValidationInfo) -> Any:
            if value:
                said = info.data
                check_registered(
                    str(info.field_name),
                    kind=said.get("kind"),
                    match=said.get("match"),
                    register=said.get("register", ""),
                )
            return value


_RARE_SCANS = 3600.0
"""Seconds: by the hour at least, all is looked at."""


class WatchConfig(Table):
    """``[[watch]]``: one watched folder and its rules. Durations are seconds."""

    path: AbsolutePath = Field(examples=["/data/drop"])
    layout: Annotated[str, AfterValidator(_layout)] = "{experiment}/{run}"
    experiment: Name | None = Field(default=None, validate_default=True, examples=["vision"])
    run: Name | None = Field(default=None, validate_default=True, examples=["nightly"])
    preset: Annotated[tuple[str, ...], AfterValidator(check_names), BeforeValidator(_one_or_more)] = Field(
        default=(), examples=["huggingface"]
    )
    settle: Duration = 5.0
    mode: Literal["auto", "events", "scan"] = "auto"
    scan_interval: Period = 300.0
    include: Annotated[tuple[Glob, ...], AfterValidator(_not_empty)] = ("**",)
    exclude: tuple[Annotated[str, AfterValidator(_glob)], ...] = DEFAULT_EXCLUDE
    live: tuple[Glob, ...] = DEFAULT_LIVE
    on_change: Literal["overwrite", "version"] = "overwrite"
    after_upload: Literal["keep", "delete"] = "keep"
    run_scope: Literal["host", "fleet"] = "host"
    abandon_after: Until = None
    route: tuple[RouteConfig, ...] = ()

    @property
    def longest_scan_interval(self) -> float:
        """Seconds that may lie between two full scans where events tell of changes: what was asked for is kept."""
        if "scan_interval" in self.model_fields_set:
            return self.scan_interval
        return max(self.scan_interval, min(_RARE_SCANS, (self.abandon_after or float("inf")) / 4))

    @field_validator("abandon_after")
    @classmethod
    def _of_one_host(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("run_scope") == "fleet":
            raise Mistake(
                'it is set, and run_scope is "fleet": one host does not see whether the others live',
                'remove abandon_after, or write run_scope = "host"',
            )
        return value

    @field_validator("route")
    @classmethod
    def _keeps_what_is_registered(cls, value: tuple[RouteConfig, ...], info: ValidationInfo) -> tuple[RouteConfig, ...]:
        for route in value:
            check_kept(route.match, route.register, info.data.get("on_change", "version"))
        return value

    @field_validator("experiment", "run")
    @classmethod
    def _complements_layout(cls, value: str | None, info: ValidationInfo) -> str | None:
        layout = info.data.get("layout")
        if layout is None:  # wrong itself
            return value
        name = info.field_name
        is_named = any(segment.is_placeholder and segment.text == name for segment in parse_template(layout))
        if is_named and value is not None:
            raise Mistake(
                f"it is set, and the layout {shown(layout)} names {{{name}}} too",
                f"remove {name}, or {{{name}}} from layout",
            )
        if not is_named and value is None:
            raise Mistake(
                f"it is missing, and the layout {shown(layout)} does not name {{{name}}}",
                f'write {name} = "…" for all files, or add a level {{{name}}} to layout',
            )
        return value


class UploadConfig(Table):
    """``[upload]``: what deliveries may take of the host and its line, all together, and what goes first.

    Limits are bytes/s, 0 for none.
    """

    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers)] = "auto"
    bandwidth_limit: Limit = 0
    read_limit: Limit = 0
    order: Literal["age", "fresh", "small", "large", "name"] = "age"


class RetryConfig(Table):
    """``[retry]``: seconds between tries, and seconds until a transient error counts as final (None: never)."""

    initial: Period = 1.0
    maximum: Period = Field(default="5m", validate_default=True, examples=["5m"])
    give_up_after: Until = None

    @field_validator("maximum")
    @classmethod
    def _at_least_initial(cls, value: float, info: ValidationInfo) -> float:
        initial = info.data.get("initial", 0.0)
        if value < initial:
            raise Mistake(
                f"{format_duration(value)} is less than initial, {format_duration(initial)}",
                f'write at least "{format_duration(initial)}", or a smaller initial',
            )
        return value


class LogConfig(Table):
    """``[log]``: how lines look, and how many there are."""

    format: Literal["auto", "console", "json", "journald"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class MetricsConfig(Table):
    """``[metrics]``: where Prometheus finds them; None serves none."""

    listen: Annotated[str, AfterValidator(_listen)] | None = Field(default=None, examples=["127.0.0.1:9464"])


class Config(Table):
    """Everything that can be configured."""

    state_dir: AbsolutePath = Field(default_factory=default_state_dir, examples=["/var/lib/artifactd"])
    mlflow: MlflowConfig = MlflowConfig()
    watch: tuple[WatchConfig, ...] = ()
    upload: UploadConfig = UploadConfig()
    retry: RetryConfig = RetryConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    notify: NotifyConfig = NotifyConfig()

    _source: str = PrivateAttr("defaults")

    @property
    def source(self) -> str:
        """The file that was read, or ``defaults``."""
        return self._source

    @property
    def tracking_uri(self) -> str:
        """Where runs are tracked: what is configured, else the embedded store."""
        return self.mlflow.tracking_uri or embedded_uri(self.state_dir)

    @property
    def embedded(self) -> bool:
        """Whether runs are tracked in the embedded store."""
        return self.tracking_uri == embedded_uri(self.state_dir)

    @property
    def embedded_artifacts(self) -> Path:
        """The embedded store's folder of artifacts."""
        return self.state_dir / "artifacts"

    def notices(self) -> tuple[str, ...]:
        """One sentence for each key that does not do all that it says in this version."""
        return notices(self)
