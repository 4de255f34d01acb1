#!/bin/sh
# Installs packages of Debian's, which its callers found missing; says which it could not. Starts no service of theirs.
#   apt.sh PACKAGE...
set -u
[ "$#" -gt 0 ] || exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
echo "Installing $*"
$as_root apt-get update -q >/dev/null 2>&1
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 ||
    echo "Not installed: $*. The tests that need them say so; as root: apt-get install $*" >&2
exit 0
