#!/bin/sh
# Installs, from Debian's packages, what boots a systemd in a root of its own; says what it could not. Starts nothing.
set -u
missing=""
command -v systemd-nspawn >/dev/null 2>&1 || missing="$missing systemd-container"
command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
# shellcheck disable=SC2086
exec "$(dirname "$0")/../apt.sh" $missing
