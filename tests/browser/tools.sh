#!/bin/sh
# Installs Chromium from Debian's packages where there is none; says what it could not.
set -u
command -v chromium >/dev/null 2>&1 && exit 0
command -v google-chrome >/dev/null 2>&1 && exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
echo "Installing chromium"
$as_root apt-get update -q >/dev/null 2>&1
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium >/dev/null 2>&1 && exit 0
echo "Not installed: chromium. As root: apt-get install chromium" >&2
exit 1
