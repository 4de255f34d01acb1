#!/bin/sh
# Installs, from Debian's packages, what the tests of the stores need and this machine lacks; says what it could not.
# The services that the packages bring are not started: each test starts its own server.
set -u
missing=""
[ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
[ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
# shellcheck disable=SC2086
exec "$(dirname "$0")/../apt.sh" $missing
