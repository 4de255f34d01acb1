"""From settings to the layout that they describe."""

from __future__ import annotations

from collections.abc import Mapping

from artifactd.config.model import RouteConfig, WatchConfig
from artifactd.config.presets import merge
from artifactd.layout import Layout, Route, parse_template
from artifactd.registration import NOWHERE, Registration


def layout_of(config: WatchConfig) -> Layout:
    """The layout that a watch's settings describe, its presets' rules among them."""
    constants: Mapping[str, str] = {
        k: v for k, v in (("experiment", config.experiment), ("run", config.run)) if v is not None
    }
    rules = merge(
        config.preset,
        depth=len(parse_template(config.layout)),
        routes=[
            Route(r.match, r.artifact_path, r.kind, context=r.context or "", registration=_registration(r))
            for r in config.route
        ],
        live=config.live,
        exclude=config.exclude,
    )
    return Layout(
        config.layout,
        constants=constants,
        include=config.include,
        exclude=rules.exclude,
        live=rules.live,
        routes=rules.routes,
        checkpoints=rules.checkpoints,
    )


def _registration(route: RouteConfig) -> Registration:
    return NOWHERE if route.register is None else Registration(route.register, route.aliases, tuple(route.tags.items()))
