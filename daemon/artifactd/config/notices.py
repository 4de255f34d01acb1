"""What is configured and not, or not wholly, there in this installation: said plainly, never passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from artifactd import installation
from artifactd.config.presets import lacks_reader
from artifactd.config.problems import shown
from artifactd.reading.known import EXTRA, MARK, is_installed

_LACKS = "needs what reads TensorBoard's event files, which is not installed"


class Notice(NamedTuple):
    """What a key that is set does not do, as it is installed here, and the line for a shell that changes that."""

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}. What mends it: {self.cure}"


def notices(config: BaseModel) -> tuple[Notice, ...]:
    """Give one for each key that is set and does not do, as it is installed here, all that it says."""
    return (*_extras(config), *_unsigned(config))


def _extras(config: BaseModel) -> Iterator[Notice]:
    for index, watch in enumerate(getattr(config, "watch", ())):
        if lacks_reader(watch.preset):
            key = f"watch[{index}].preset = {shown(watch.preset)}"
            yield Notice(f"{key} {_LACKS}: their scalars are not told", _cure())
        for number, route in enumerate(watch.route):
            if route.kind == "metrics" and MARK.decode() in route.match and not is_installed():
                key = f"watch[{index}].route[{number}].match = {shown(route.match)}"
                yield Notice(f"{key} {_LACKS}: they fail, though they are stored", _cure())


def _cure() -> str:
    # Asked for only where it is lacking: it reads the metadata of what is installed.
    return str(installation.here().with_extra(EXTRA))


def _unsigned(config: BaseModel) -> Iterator[Notice]:
    # No mistake: the webhook may stand in the service's environment alone, and others read the file, too.
    notify = getattr(config, "notify", None)
    if notify is not None and notify.secret_file is not None and notify.webhook is None:
        key = f"notify.secret_file = {shown(str(notify.secret_file))}"
        yield Notice(
            f"{key} signs nothing: there is no webhook", "Write one, or set ARTIFACTD_NOTIFY__WEBHOOK here as well"
        )
