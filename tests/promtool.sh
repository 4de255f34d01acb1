#!/bin/sh
# Puts Debian's promtool into a folder, unless this machine has one: unpacked alone, since its package brings a service.
#   promtool.sh FOLDER
set -u
folder=$1
command -v promtool >/dev/null 2>&1 && exit 0
[ -x "$folder/promtool" ] && exit 0
echo "Fetching promtool"
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fetch() {
    (cd "$scratch" && apt-get download -q prometheus) >/dev/null 2>&1
}
fetch || { $as_root apt-get update -q >/dev/null 2>&1 && fetch; }
if dpkg -x "$scratch"/prometheus_*.deb "$scratch/root" 2>/dev/null; then
    install -D "$scratch/root/usr/bin/promtool" "$folder/promtool" && exit 0
fi
echo "Not fetched: promtool. The tests that need it say so; as root: apt-get install prometheus" >&2
exit 0
