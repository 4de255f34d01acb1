#!/bin/sh
# Installs, from Debian's packages, what builds an image without an engine; says what it could not. Starts nothing.
set -u
missing=""
command -v buildah >/dev/null 2>&1 || missing="$missing buildah"
command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
# shellcheck disable=SC2086
exec "$(dirname "$0")/../apt.sh" $missing
