#!/usr/bin/env bash
# Checks the packages of one architecture in out/: contents with owner and mode against packaging/contents.*.txt, size,
# lintian and rpmlint; of a container image also what skopeo says about it, and that a second one has the same bytes:
#   packaging/check.sh TARGET [deb|rpm|image...]
# KINDs are deb and rpm by default. UPDATE=1 writes the lists of contents instead; review the diff. A package of an
# unoptimised binary is too large: SIZE=any leaves that check out.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: check.sh TARGET [deb|rpm...]}
shift
. packaging/names.sh
[ $# -gt 0 ] || set -- deb rpm
ceiling_bytes=11534336 # 11 MiB
image_ceiling_bytes=15728640 # 15 MiB: its layer is compressed with gzip, which every engine reads
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "error: $*" >&2
    exit 1
}

compare() { # FILE EXPECTED
    [ "${UPDATE:-}" != 1 ] || cp "$1" "$2"
    diff -u "$2" "$1" || fail "the contents differ from $2"
}

size() { # PACKAGE [CEILING]
    local bytes ceiling_bytes=${2:-$ceiling_bytes}
    bytes=$(stat -c %s "$1")
    [ "${SIZE:-}" = any ] || [ "$bytes" -le "$ceiling_bytes" ] || fail "$1 has $bytes bytes, the limit is $ceiling_bytes"
    echo "$1: $bytes bytes"
}

check_deb() {
    local package=out/$deb
    size "$package"
    dpkg-deb -c "$package" | awk '{ print $1, $2, $6, $7, $8 }' | sed 's/ *$//' >"$work/contents"
    compare "$work/contents" packaging/contents.deb.txt
    lintian --allow-root --pedantic --display-info --fail-on error,warning,info "$package"
}

check_rpm() {
    local package=out/$rpm
    size "$package"
    rpm -qp --nosignature --qf '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES} %{FILEFLAGS:fflags}\n]' "$package" |
        sed 's/ *$//' >"$work/contents"
    compare "$work/contents" packaging/contents.rpm.txt
    rpmlint -c packaging/rpmlint.toml "$package" >"$work/rpmlint" || { cat "$work/rpmlint" >&2; fail rpmlint; }
    grep -q ' 0 errors, 0 warnings' "$work/rpmlint" || { cat "$work/rpmlint" >&2; fail rpmlint; }
}

check_image() {
    local image=out/$image kind name
    size "$image" "$image_ceiling_bytes"
    # The same in either form, whatever differs between the architectures and the commits.
    for kind in oci-archive docker-archive; do
        skopeo inspect --config "$kind:$image" >"$work/config"
        [ "$(jq -r .architecture "$work/config")" = "$deb_arch" ] || fail "$image: another architecture"
        jq -S 'del(.architecture, .variant, .created, .history, .rootfs)
            | del(.config.Labels["org.opencontainers.image.created", "org.opencontainers.image.revision",
                "org.opencontainers.image.version"])' "$work/config" >"$work/settings"
        compare "$work/settings" packaging/image.json
    done
    mkdir "$work/layout"
    tar -xf "$image" -C "$work/layout"
    name=$(jq -r '.manifests[0].annotations["org.opencontainers.image.ref.name"]' "$work/layout/index.json")
    umoci unpack --image "$work/layout:$name" "$work/bundle" 2>/dev/null || fail "$image: umoci unpack"
    (cd "$work/bundle/rootfs" && find . -mindepth 1 -printf '%M %U/%G %P %l\n') | sed 's/ *$//' | sort -k 3 >"$work/contents"
    compare "$work/contents" packaging/contents.image.txt
    (umask 077 && TZ=Asia/Tokyo PYTHONHASHSEED=1 packaging/image.py "$target" "$work/again.tar" >/dev/null)
    cmp "$image" "$work/again.tar" || fail "$image: a second one differs"
    rm -rf "$work/layout" "$work/bundle" "$work/again.tar"
}

for kind in "$@"; do
    "check_$kind"
done
