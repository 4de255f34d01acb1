#!/bin/sh
# Installs, from Debian's packages, what the tests of the stores need and this machine lacks; says what it could not.
# The services that the packages bring are not started: each test starts its own server.
set -u
missing=""
[ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
[ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
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
