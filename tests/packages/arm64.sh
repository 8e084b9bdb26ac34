#!/usr/bin/env bash
# Tries the packages for 64-bit ARM on a machine that is none, under emulation:
#   tests/packages/arm64.sh [DEB [RPM]]
# The defaults are those in out/. tests/aarch64.sh runs the program of the .deb, deb.sh installs the package in a container, and
# the .rpm must have the same program. On an ARM machine, deb.sh and rpm.sh do all of it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packages/common.sh
deb=$(realpath "${1:-$(package_of aarch64-unknown-linux-musl deb)}")
rpm=$(realpath "${2:-$(package_of aarch64-unknown-linux-musl rpm)}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ "$(dpkg-deb -f "$deb" Architecture)" = arm64 ] || fail "$deb: another architecture"
[ "$(rpm -qp --nosignature --qf '%{ARCH}' "$rpm")" = aarch64 ] || fail "$rpm: another architecture"
dpkg-deb -x "$deb" "$work/deb"
mkdir "$work/rpm"
rpm2cpio "$rpm" | (cd "$work/rpm" && cpio --quiet -idm)
cmp "$work/deb/usr/bin/chatto" "$work/rpm/usr/bin/chatto" || fail 'the program of the .rpm is another one'
tests/aarch64.sh "$work/deb/usr/bin/chatto"
tests/packages/deb.sh "$deb"
if [ "$(uname -m)" != aarch64 ]; then
    echo 'REDUCED: emulated; the units ran without their sandbox, the backup service not at all'
fi
