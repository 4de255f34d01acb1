"""From settings to the layout that they describe."""

from __future__ import annotations

from collections.abc import Mapping

from artifactd.config.model import WatchConfig
from artifactd.layout import Layout, Route


def layout_of(config: WatchConfig) -> Layout:
    """The layout that a watch's settings describe."""
    constants: Mapping[str, str] = {
        k: v for k, v in (("experiment", config.experiment), ("run", config.run)) if v is not None
    }
    return Layout(
        config.layout,
        constants=constants,
        include=config.include,
        exclude=config.exclude,
        live=config.live,
        routes=[Route(r.match, r.artifact_path, r.kind, r.context or "") for r in config.route],
    )
