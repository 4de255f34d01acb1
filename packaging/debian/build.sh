#!/usr/bin/env bash
# Builds dist/artifactd_VERSION_ARCH.deb and dist/artifactd-local_VERSION_ARCH.deb: what `make deb` calls.
#
# Each is an environment of its own under /opt/artifactd, made by Debian's python3, with the versions of constraints.txt.
# Needs Debian 12 or newer, python3, python3-venv and the network. Root is not needed, and nothing outside of dist/ and .venv/deb is written.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=/usr/bin/python3
here=packaging/debian
work=$PWD/.venv/deb
root=$work/artifactd
local=$work/artifactd-local
whole=$work/whole
prefix=/opt/artifactd
doc=usr/share/doc

fail() {
    echo "make deb: $*" >&2
    exit 1
}

command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing: packages for Debian are built on Debian"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$python is missing or older than 3.11. On Debian 12 or newer: apt-get install python3"
"$python" -c 'import ensurepip' 2>/dev/null || fail "ensurepip is missing. Install it: apt-get install python3-venv"

# -- which version ---------------------------------------------------------------------------------------------------

number=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' daemon/artifactd/__init__.py)
[ -n "$number" ] || fail "daemon/artifactd/__init__.py has no __version__"
# 1.0rc1 comes before 1.0 in Debian's order, too.
version=$(sed -E 's/(a|b|rc|\.dev)([0-9]+)$/~\1\2/; s/~\./~/' <<<"$number")
stamp=$(date +%s)
if git rev-parse --git-dir >/dev/null 2>&1; then
    stamp=$(git log -1 --format=%ct)
    # What is no release comes before the release of that number, and after what was built before.
    if ! git tag --points-at HEAD | grep -qxF "v$number"; then
        version="$version~$(date -u -d "@$stamp" +%Y%m%d%H%M%S).$(git rev-parse --short HEAD)"
    fi
fi
version="$version-1"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$stamp}
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-artifactd} <${DEBEMAIL:-root@localhost}>"
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')

# -- the environment -------------------------------------------------------------------------------------------------

echo "Building artifactd $version ($arch) with $("$python" --version)"
rm -rf "$work"
mkdir -p "$root$prefix" "$local" dist
umask 022
# The variables of whoever builds are no part of the package; those of pip (a mirror, a proxy) are how to get at it.
unset PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
"$python" -m venv "$root$prefix"
rm -f "$root$prefix/.gitignore" # of Python 3.13 and newer
install_into() {
    "$1$prefix/bin/python" -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt "$2"
}
list_of() { (cd "$1" && find . ! -type d -not -path '*/__pycache__/*' | LC_ALL=C sort); }

echo "Installing artifactd with the clients of all stores"
"$root$prefix/bin/python" -m pip wheel -qq --disable-pip-version-check --no-deps -w "$work" .
wheel=$(echo "$work"/artifactd-*.whl)
install_into "$root" "${wheel}[s3,azure,gcs,sftp,tensorboard]"
"$root$prefix/bin/python" -m pip uninstall -qq -y setuptools
list_of "$root" >"$work/base.list"
echo "Installing what the embedded store needs"
cp -a "$root" "$whole"
install_into "$whole" "${wheel}[s3,azure,gcs,sftp,tensorboard,local]"
list_of "$whole" >"$work/whole.list"
# The second package is what that has added, so it may not have changed what the first one brings.
(cd "$whole" && LC_ALL=C comm -13 "$work/base.list" "$work/whole.list" | tar -cf - -T -) | tar -xf - -C "$local"
while read -r file; do
    case $file in
    "."$prefix/bin/*) test -e "$whole/$file" && continue ;; # these name their own place, which is mended below
    esac
    [ -L "$root/$file" ] && continue
    cmp -s "$root/$file" "$whole/$file" || fail "the embedded store changes $file: one environment cannot be two packages"
done <"$work/base.list"
rm -rf "$whole"

# Its place is /opt/artifactd, and not where it was made: scripts, pyvenv.cfg, activate.
for tree in "$root" "$local"; do
    for made in "$root" "$whole"; do
        { grep -rIl --null -F "$made$prefix" "$tree$prefix/bin" "$tree$prefix/pyvenv.cfg" 2>/dev/null || true; } |
            xargs -0 -r sed -i "s|$made$prefix|$prefix|g"
    done
done
# A note of pip's, where it found the source.
find "$root$prefix" "$local" -name direct_url.json -delete

# -- what lies around it ---------------------------------------------------------------------------------------------

artifactd=("$root$prefix/bin/python" -m artifactd)
install -D -m 644 "$here/config.toml" "$root/etc/artifactd/config.toml"
install -D -m 644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/artifactd.conf"
mkdir -p "$root/usr/lib/systemd/system" "$root/usr/lib/systemd/user" "$root/usr/bin" "$root/usr/share/man/man1"
of_package=(--print --program "$prefix/bin/artifactd")
"${artifactd[@]}" install-unit "${of_package[@]}" >"$root/usr/lib/systemd/system/artifactd.service"
"${artifactd[@]}" install-unit --template "${of_package[@]}" >"$root/usr/lib/systemd/system/artifactd@.service"
"${artifactd[@]}" install-unit --user "${of_package[@]}" >"$root/usr/lib/systemd/user/artifactd.service"
"${artifactd[@]}" install-unit --user --template "${of_package[@]}" >"$root/usr/lib/systemd/user/artifactd@.service"
ln -s "$prefix/bin/artifactd" "$root/usr/bin/artifactd"
"$root$prefix/bin/python" packaging/manpage.py >"$root/usr/share/man/man1/artifactd.1"
gzip -9n "$root/usr/share/man/man1/artifactd.1"
complete() { install -D -m 644 <(_ARTIFACTD_COMPLETE="source_$1" "$root$prefix/bin/python" -c 'from artifactd.cli import main; main()') "$root/$2"; }
complete bash usr/share/bash-completion/completions/artifactd
complete zsh usr/share/zsh/vendor-completions/_artifactd
complete fish usr/share/fish/vendor_completions.d/artifactd.fish

for package in artifactd artifactd-local; do
    mkdir -p "$work/$package/$doc/$package"
    cp "$here/copyright" "$work/$package/$doc/$package/copyright"
    gzip -9n <CHANGELOG.md >"$work/$package/$doc/$package/changelog.gz"
    gzip -9n >"$work/$package/$doc/$package/changelog.Debian.gz" <<END
$package ($version) unstable; urgency=medium

  * Built from the project's own source; changelog.gz says what changes.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
    install -D -m 644 "$here/$package.lintian-overrides" "$work/$package/usr/share/lintian/overrides/$package"
done
cp config.example.toml README.md "$root/$doc/artifactd/"
cp -r docs examples "$root/$doc/artifactd/"

# -- the packages ----------------------------------------------------------------------------------------------------

pack() {
    local package=$1 tree=$work/$1
    find "$tree" -name __pycache__ -prune -exec rm -rf {} +
    # Modules keep their times in the archive, so that their bytecode, made from them here, stays good: no user of the
    # service may write it, and each start would compile anew.
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    "$python" -m compileall -q -j 2 -s "$tree" -p / --invalidation-mode timestamp "$tree$prefix/lib" >/dev/null || true
    find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    find "$tree" -type d -exec chmod 755 {} +
    mkdir "$tree/DEBIAN"
    sed -e "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@MAINTAINER@|$maintainer|" \
        -e "s|@SIZE@|$(du -sk --exclude=DEBIAN "$tree" | cut -f1)|" \
        -e "s|@PYTHON@|python3 (>= 3.$minor~), python3 (<< 3.$((minor + 1))~)|" "$here/$package.control" >"$tree/DEBIAN/control"
    if [ "$package" = artifactd ]; then
        install -m 644 "$here/templates" "$tree/DEBIAN/templates"
        echo /etc/artifactd/config.toml >"$tree/DEBIAN/conffiles"
        install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$tree/DEBIAN"
    fi
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    # -z1: somewhat bigger than the default, and several times as fast.
    dpkg-deb --root-owner-group --build -Zxz -z1 "$tree" "dist/${package}_${version}_$arch.deb" >/dev/null
    ls -sh "dist/${package}_${version}_$arch.deb"
}
rm -f dist/artifactd_*.deb dist/artifactd-local_*.deb
pack artifactd
pack artifactd-local
