"""Configuration: TOML file, ``ARTIFACTD_…`` environment and flags, checked as a whole before anything starts.

``model`` says what there is, ``sources`` where it stands, ``load`` puts both together; ``problems`` is how mistakes are
told, ``notices`` what this installation lacks for it, ``effective`` how the result is shown.
"""

from artifactd.config.plain import without_plugins

# Nobody is to have a say in what our tables are, and to ask takes a look into all that is installed.
with without_plugins():
    from artifactd.config.effective import masked
    from artifactd.config.load import load_config
    from artifactd.config.model import (
        Config,
        LogConfig,
        MetricsConfig,
        MlflowConfig,
        RetryConfig,
        RouteConfig,
        UploadConfig,
        WatchConfig,
    )
    from artifactd.config.notify import NotifyConfig
    from artifactd.config.problems import ConfigError, Problem
    from artifactd.config.rules import layout_of
    from artifactd.config.units import format_duration, parse_duration, parse_size

__all__ = [
    "Config",
    "ConfigError",
    "LogConfig",
    "MetricsConfig",
    "MlflowConfig",
    "NotifyConfig",
    "Problem",
    "RetryConfig",
    "RouteConfig",
    "UploadConfig",
    "WatchConfig",
    "format_duration",
    "layout_of",
    "load_config",
    "masked",
    "parse_duration",
    "parse_size",
]
