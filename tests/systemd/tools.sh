#!/bin/sh
# Installs, from Debian's packages, what boots a systemd in a root of its own; says what it could not. Starts nothing.
set -u
missing=""
command -v systemd-nspawn >/dev/null 2>&1 || missing="$missing systemd-container"
command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
[ -z "$missing" ] && exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
echo "Installing$missing"
$as_root apt-get update -q >/dev/null 2>&1
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -q --no-install-recommends $missing >/dev/null 2>&1 ||
    echo "Not installed:$missing. The tests that need them say so; as root: apt-get install$missing" >&2
exit 0
