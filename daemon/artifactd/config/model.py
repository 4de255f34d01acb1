"""What can be configured: every key with its type, its default and the rules for its value alone.

What keys must not be together (overlapping folders) is for ``load``, which knows where each value came from.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_state_path
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from artifactd.config.fields import (
    AbsolutePath,
    Address,
    AnyGlob,
    ArtifactFolder,
    Duration,
    Glob,
    Globs,
    Limit,
    Name,
    Period,
    Table,
    Template,
    Until,
    Workers,
    one_or_more,
)
from artifactd.config.models import Alias, RegisteredName, VersionTags, check_folder, check_kept, check_registered
from artifactd.config.notices import Notice, notices
from artifactd.config.notify import NotifyConfig
from artifactd.config.presets import check_names
from artifactd.config.problems import Mistake, shown
from artifactd.config.units import format_duration
from artifactd.config.uris import check_artifact_location, check_tracking_uri, embedded_uri, is_loopback
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


def default_state_dir() -> Path:
    """The user's XDG state folder, as ``~/.local/state/artifactd``."""
    return user_state_path("artifactd", appauthor=False)


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
        artifact_path: ArtifactFolder | None = Field(default=None, examples=["plots"])
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
    layout: Template = "{experiment}/{run}"
    experiment: Name | None = Field(default=None, validate_default=True, examples=["vision"])
    run: Name | None = Field(default=None, validate_default=True, examples=["nightly"])
    preset: Annotated[tuple[str, ...], AfterValidator(check_names), BeforeValidator(one_or_more)] = Field(
        default=(), examples=["huggingface"]
    )
    settle: Duration = 5.0
    mode: Literal["auto", "events", "scan"] = "auto"
    scan_interval: Period = 300.0
    include: Globs = ("**",)
    exclude: tuple[AnyGlob, ...] = DEFAULT_EXCLUDE
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

    workers: Workers = "auto"
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
    """``[metrics]``: where Prometheus finds them, with or without the page for people, and the token to be shown."""

    token_file: AbsolutePath | None = Field(default=None, examples=["/etc/artifactd/metrics-token"])
    listen: Address | None = Field(default=None, examples=["127.0.0.1:9464"])
    page: bool = True

    @field_validator("listen")
    @classmethod
    def _open_to_this_machine(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and not is_loopback(value.rpartition(":")[0]) and info.data.get("token_file", "wrong") is None:
            raise Mistake(
                f"{shown(value)} can be reached by other machines, and there is no token_file",
                'write token_file = "/etc/artifactd/metrics-token", or listen on 127.0.0.1',
            )
        return value


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

    def notices(self) -> tuple[Notice, ...]:
        """One sentence for each key that does not do, as artifactd is installed here, all that it says."""
        return notices(self)
