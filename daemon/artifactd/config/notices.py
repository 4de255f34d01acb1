"""What is configured and not, or not wholly, there in this installation: said plainly, never passed over."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from artifactd.config.presets import lacks_reader
from artifactd.config.problems import shown
from artifactd.reading.known import INSTALL, MARK, is_installed

_LACKS = "needs what reads TensorBoard's event files, which is not installed"
_CURE = f"To have them told: {INSTALL}, and a restart"


def notices(config: BaseModel) -> tuple[str, ...]:
    """Give one sentence for each key that is set and does not do, as it is installed here, all that it says."""
    return (*_extras(config), *_unsigned(config))


def _extras(config: BaseModel) -> Iterator[str]:
    for index, watch in enumerate(getattr(config, "watch", ())):
        if lacks_reader(watch.preset):
            key = f"watch[{index}].preset = {shown(watch.preset)}"
            yield f"{key} {_LACKS}: their scalars are not told. {_CURE}."
        for number, route in enumerate(watch.route):
            if route.kind == "metrics" and MARK.decode() in route.match and not is_installed():
                key = f"watch[{index}].route[{number}].match = {shown(route.match)}"
                yield f"{key} {_LACKS}: they fail, though they are stored. {_CURE}."


def _unsigned(config: BaseModel) -> Iterator[str]:
    # No mistake: the webhook may stand in the service's environment alone, and others read the file, too.
    notify = getattr(config, "notify", None)
    if notify is not None and notify.secret_file is not None and notify.webhook is None:
        key = f"notify.secret_file = {shown(str(notify.secret_file))}"
        yield f"{key} signs nothing: there is no webhook. Write one, or set ARTIFACTD_NOTIFY__WEBHOOK here as well."
