#!/usr/bin/env bash
# The tutorial by the packages in a clean Debian, and their installation, use, upgrade, removal and purge; lintian: what
# `make test-deb` calls, as root.
# Builds them first, unless BUILT=1 says that those in dist/ are meant.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() {
    echo "test-deb: $*" >&2
    exit 1
}
step() { echo "== $*"; }

[ "$(id -u)" -eq 0 ] || fail "this needs root, for the clean Debian"
if ! command -v mmdebstrap >/dev/null || ! command -v lintian >/dev/null; then
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends mmdebstrap lintian >/dev/null
fi
[ "${BUILT:-}" = 1 ] || packaging/debian/build.sh
base=$(echo dist/artifactd_*.deb)
local=$(echo dist/artifactd-local_*.deb)
for package in "$base" "$local"; do
    [ -f "$package" ] || fail "dist/ lacks $package"
done
version=$(dpkg-deb -f "$base" Version)

step "a clean Debian"
top=$(mktemp -d /var/tmp/artifactd-deb.XXXXXX)
root=$top/root
reader=$top/reader
chmod 755 "$top" # apt fetches as a user of its own
cleanup() {
    umount -q "$root/proc" || true
    umount -q "$reader/proc" || true
    rm -rf --one-file-system "$top"
}
trap cleanup EXIT
# What Depends names has to bring everything: nothing of it is here before.
mmdebstrap --quiet --variant=minbase --include=man-db "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp -a "$root" "$reader"
mount -t proc proc "$root/proc"
mount -t proc proc "$reader/proc"
cp "$base" "$local" "$root/tmp/"
mkdir "$reader/root/dist"
cp "$base" "$local" "$reader/root/dist/"
clean=(chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
user=(setpriv --reuid artifactd --regid artifactd --init-groups env HOME=/var/lib/artifactd)
inside() { "${clean[@]}" "$@"; }
as_artifactd() { inside "${user[@]}" "$@"; }
left() { find "$root"/etc "$root"/usr "$root"/opt "$root"/lib/systemd -name '*artifactd*' 2>/dev/null; }
there() {
    for path in "$@"; do
        [ -e "$root/$path" ] || fail "$path is gone"
    done
}
gone() {
    for path in "$@"; do
        [ ! -e "$root/$path" ] || fail "$path is left"
    done
}

step "the tutorial, to the letter"
PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 packaging/debian/tutorial.py "$reader"

step "install"
inside apt-get update -q >/dev/null
inside apt-get install -y -q --no-install-recommends "/tmp/${base##*/}" >"$top/install.log" 2>&1 || { cat "$top/install.log"; fail "it does not install"; }
inside artifactd --version
[ "$(inside artifactd --version)" = "artifactd $(sed -n 's/^__version__ = "\(.*\)"$/\1/p' daemon/artifactd/__init__.py)" ] || fail "the wrong version"
[ -z "$(inside dpkg --verify artifactd)" ] || fail "dpkg --verify finds changed files"
inside man artifactd | grep -c "artifactd sync" >/dev/null || fail "no manual page"
for shell in usr/share/bash-completion/completions/artifactd usr/share/zsh/vendor-completions/_artifactd usr/share/fish/vendor_completions.d/artifactd.fish; do
    grep -q _ARTIFACTD_COMPLETE "$root/$shell" || fail "no completion: $shell"
done
inside getent passwd artifactd
[ "$(inside stat -c '%U %a' /var/lib/artifactd)" = "artifactd 700" ] || fail "the state folder is not the service's alone"
# Nothing is watched: exit code 2, in words.
code=0
as_artifactd artifactd run --config /etc/artifactd/config.toml 2>"$top/unset" || code=$?
[ "$code" = 2 ] || fail "a start without a watch ends with $code"
grep "no folder is watched" "$top/unset" || fail "a start without a watch does not say so"

step "all modules have their bytecode, and it is good"
inside /opt/artifactd/bin/python -v -c 'import artifactd.engine, mlflow' >"$top/imports" 2>&1
[ "$(grep -c "^# code object from .*/opt/artifactd/.*\.pyc'" "$top/imports")" -gt 500 ] || fail "there is no bytecode"
anew=$(grep "^# code object from .*/opt/artifactd/.*\.py'" "$top/imports" || true)
[ -z "$anew" ] || fail "compiled anew at each start: $anew"

step "the embedded store, and a folder delivered as the user"
inside apt-get install -y -q --no-install-recommends "/tmp/${local##*/}" >"$top/local.log" 2>&1 || { cat "$top/local.log"; fail "artifactd-local does not install"; }
[ -z "$(inside dpkg --verify artifactd-local)" ] || fail "dpkg --verify finds changed files"
mkdir -p "$root/data/drop/vision/run-1"
echo '{"lr": 0.001}' >"$root/data/drop/vision/run-1/config.json"
printf '%s\n' '[[watch]]' 'path = "/data/drop"' 'settle = "0.5s"' >>"$root/etc/artifactd/config.toml"
"${clean[@]}" "${user[@]}" artifactd run --config /etc/artifactd/config.toml --log-format console >"$top/run.log" 2>&1 &
pid=$!
for _ in $(seq 240); do
    grep -q " stored .*config.json" "$top/run.log" && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
done
kill -TERM "$pid" || true
code=0
wait "$pid" || code=$?
cat "$top/run.log"
grep -q " stored .*config.json" "$top/run.log" || fail "it was not stored"
[ "$code" = 0 ] || fail "SIGTERM: exit code $code"
as_artifactd artifactd ls /data/drop/vision/run-1

step "upgrade: configuration and ledger stay, nothing is sent again"
for package in "$base" "$local"; do
    newer=$top/newer
    dpkg-deb -R "$package" "$newer"
    sed -i -e "s/^Version: .*/Version: $version+upgrade/" -e "s/artifactd (= [^)]*)/artifactd (= $version+upgrade)/" "$newer/DEBIAN/control"
    dpkg-deb --root-owner-group --build -Zgzip -z1 "$newer" "$root/tmp/newer-$(dpkg-deb -f "$package" Package).deb" >/dev/null
    rm -rf "$newer"
done
# Both in one command, as docs/install.md says: by the first alone, apt takes the embedded store away.
inside apt-get install -y -q --no-install-recommends /tmp/newer-artifactd.deb /tmp/newer-artifactd-local.deb >"$top/upgrade.log" 2>&1 ||
    { cat "$top/upgrade.log"; fail "the upgrade does not install"; }
grep -q '^path = "/data/drop"' "$root/etc/artifactd/config.toml" || fail "the upgrade took the configuration"
for package in artifactd artifactd-local; do
    inside dpkg -s "$package" | grep -xF "Version: $version+upgrade" || fail "no upgrade of $package"
done
inside artifactd status # as root, by the configuration alone
as_artifactd artifactd status --json | grep -c '"stored": 1,' >/dev/null || fail "the ledger is gone"
as_artifactd artifactd ls /data/drop/vision/run-1 | grep -F config.json || fail "the embedded store is gone"

step "remove: configuration and state stay"
inside apt-get remove -y -q artifactd >/dev/null 2>&1
gone opt/artifactd usr/bin/artifactd
there etc/artifactd/config.toml var/lib/artifactd/ledger.db

step "purge with nobody to ask: the ledger stays"
inside apt-get purge -y -q artifactd 2>&1 | grep "^Kept: " || fail "it does not say what it keeps"
gone etc/artifactd
there var/lib/artifactd/ledger.db

step "purge with a yes: all goes but the drop folder"
inside apt-get install -y -q --no-install-recommends "/tmp/${base##*/}" >/dev/null 2>&1
mkdir "$root/var/lib/artifactd-elsewhere" # of somebody else: no ledger, and not empty
touch "$root/var/lib/artifactd-elsewhere/file"
echo 'artifactd artifactd/delete_state boolean true' | inside debconf-set-selections
inside apt-get purge -y -q artifactd >/dev/null 2>&1
gone var/lib/artifactd
there var/lib/artifactd-elsewhere/file data/drop/vision/run-1/config.json
[ -z "$(left)" ] || fail "something is left: $(left)"

# Its rules are those of Debian's archive; what does not hold here is overridden, with the reason. Each package has some
# 16,000 files, so it takes minutes, and says nothing until its end.
step "lintian: an error or a warning fails"
check_rules() { timeout 1800 lintian --allow-root --fail-on error,warning "$1" >"$2" 2>&1; }
check_rules "$base" "$top/lintian" &
other=$!
code=0
check_rules "$local" "$top/lintian-local" || code=$?
wait "$other" || code=$?
cat "$top/lintian" "$top/lintian-local"
[ "$code" != 124 ] || fail "lintian took more than 30 minutes"
[ "$code" = 0 ] || fail "lintian ends with $code"
echo "All in order: $version"
