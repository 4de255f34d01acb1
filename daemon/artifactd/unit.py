"""The unit for systemd: one text, in ``systemd/``, and what other forms of it say otherwise.

Pure but for reading that text. A directive goes together with the comment above it, which is its reason.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources

PROGRAM = "/opt/artifactd/bin/artifactd"
"""What the text starts, as it stands in ``systemd/``."""

_NOT_A_USERS = frozenset({
    # Another user, or what takes privileges to set up: a user's manager would fail, or ignore it with a warning.
    "User", "ProtectSystem", "ProtectHome", "PrivateMounts", "PrivateTmp", "PrivateDevices", "PrivateIPC", "RemoveIPC",
    "ProtectProc", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
    "ProtectClock", "ProtectHostname", "CapabilityBoundingSet", "AmbientCapabilities", "ReadOnlyPaths",
    # systemd 252 would have the state in ~/.config. Without these, it lies where all commands look for it.
    "StateDirectory", "StateDirectoryMode", "WorkingDirectory",
    # Units of the system, which a user's manager does not know; its root is not the machine's.
    "After", "Slice",
})  # fmt: skip

_HEAD_OF_A_USERS = """\
# artifactd as a service of one user, without root. Written by `artifactd install-unit --user`.
# Change it with a drop-in (systemctl --user edit artifactd), not here.
"""

_SEAL = "# `artifactd install-unit` writes this file anew as long as nobody has changed it: "


def unit_text(
    *, program: str = PROGRAM, user: bool = False, template: bool = False,
    config: str | None = None, state_dir: str | None = None,
) -> str:  # fmt: skip
    """The unit.

    Args:
        program: The command's absolute path.
        config: The configuration's, where it is not in its usual place.
        state_dir: The state folder's, likewise.
        user: For a user's manager (``systemctl --user``) and not for the system's.
        template: For several instances (``artifactd@NAME.service``), each with a configuration and a state of its own.
    """
    text = resources.files("artifactd").joinpath("artifactd.service").read_text(encoding="utf-8")
    if user:
        text = _for_a_user(text)
    if template:
        text = _for_instances(text, user=user)
    if config is not None:
        text = re.sub(r"(?m)^(ExecStart=.* --config )\S+", lambda found: found[1] + _word(config), text)
    if state_dir is not None:
        text = re.sub(
            r"(?m)^(ExecStart=.*?)( --state-dir \S+)?$",
            lambda found: f"{found[1]} --state-dir {_word(state_dir)}",
            text,
        )
    if state_dir is not None and not user:
        strict = "ProtectSystem=strict\n"
        text = text.replace(
            strict, f"{strict}# But for the state folder, which is elsewhere.\nReadWritePaths={_word(state_dir)}\n"
        )
    return text.replace(f"ExecStart={PROGRAM} ", f"ExecStart={_word(program)} ")


def unit_name(*, template: bool) -> str:
    """What its file is called."""
    return "artifactd@.service" if template else "artifactd.service"


def sealed(text: str) -> str:
    """The text with a last line by which `is_untouched` knows it again."""
    return f"{text}{_SEAL}{_digest(text)}\n"


def is_untouched(text: str) -> bool:
    """Whether this is as some version of `sealed` has made it."""
    body, found, digest = text.rpartition(_SEAL)
    return bool(found) and digest.strip() == _digest(body)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _for_a_user(text: str) -> str:
    _, _, rest = text.partition("\n\n")
    kept: list[str] = []
    reason: list[str] = []
    for line in rest.splitlines():
        if line.startswith("# "):
            reason.append(line)
            continue
        if line.partition("=")[0] not in _NOT_A_USERS:
            kept += [*reason, line]
        reason = []
    text = re.sub(r"\n{3,}", "\n\n", "\n".join([*kept, *reason, ""]))
    text = re.sub(r"(?m)^# --- [^\n]* ---\n\n(?=# ---|\[)", "", text)  # a section that has nothing left
    text = text.replace("/etc/artifactd/", "%E/artifactd/").replace(": root's, mode 0600", ": yours, mode 0600")
    text = text.replace("# Makes /etc/artifactd where", "# Makes ~/.config/artifactd where")
    text = text.replace("# Starts with the machine.\nWantedBy=multi-user.target",
                        "# Starts at the first login, and with the machine after `loginctl enable-linger`.\n"
                        "WantedBy=default.target")  # fmt: skip
    return f"{_HEAD_OF_A_USERS}\n{text}"


def _for_instances(text: str, *, user: bool) -> str:
    folder = "%E/artifactd/" if user else "/etc/artifactd/"
    started = f"run --config {folder}%i.toml" + (" --state-dir %h/.local/state/artifactd-%i" if user else "")
    replaced = {
        "Description=artifactd, MLflow's drop folder\n": "Description=artifactd, MLflow's drop folder: %i\n",
        f"run --config {folder}config.toml": started,
        f"EnvironmentFile=-{folder}environment\n": (
            f"EnvironmentFile=-{folder}environment\n# Those of this instance alone, which go before the others.\n"
            f"EnvironmentFile=-{folder}%i.environment\n"
        ),
        "# /var/lib/artifactd holds": "# /var/lib/artifactd-NAME holds",
        "StateDirectory=artifactd\n": "StateDirectory=artifactd-%i\n",
        "WorkingDirectory=%S/artifactd\n": "WorkingDirectory=%S/artifactd-%i\n",
    }
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def _word(path: str) -> str:
    """A path as one word of a unit."""
    path = path.replace("%", "%%")
    if re.fullmatch(r"[\w./%@:+,=-]+", path, re.ASCII):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
