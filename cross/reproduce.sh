#!/usr/bin/env bash
# Builds binary, packages, image and list of contents here and in a fresh clone in another folder, and compares their bytes:
#   cross/reproduce.sh [TARGET...]
# TARGET is x86_64-unknown-linux-musl or aarch64-unknown-linux-musl, by default both. Everything must be committed. The
# clone has another path, umask, locale and time zone; it uses the same compilers, which are no part of a commit. A
# release build takes 10 to 20 minutes for each target; the one here does nothing if it is up to date.
# REPRODUCE_PROFILE is another profile. Two results that differ stay in target/reproduce.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- x86_64-unknown-linux-musl aarch64-unknown-linux-musl
[ -z "$(git status --porcelain)" ] || {
    echo 'error: there are changes that are not committed' >&2
    exit 1
}
here=$PWD
commit=$(git rev-parse HEAD)
elsewhere=$(mktemp -d "${TMPDIR:-/var/tmp}/another-folder-XXXXXXXX")
trap 'rm -rf "$elsewhere"' EXIT
results=$here/target/reproduce
rm -rf "$results"
mkdir -p "$results/here" "$results/elsewhere"
git clone --quiet --no-checkout "$here" "$elsewhere/chatto"
git -C "$elsewhere/chatto" checkout --quiet "$commit"

# make_all RESULTS TARGET: in the working directory
make_all() (
    target=$2
    . packaging/names.sh
    .ci/setup build cross packages
    cross/build.sh "$target" "${REPRODUCE_PROFILE:-release}"
    cp "out/$target/chatto" "$1/chatto-$target"
    CHATTO_PACKAGE_DIR=$1 packaging/build.sh "$target"
    packaging/image.py "$target" "$1/$image"
    packaging/inventory.py bom "$target" >"$1/$bom"
)

for target; do
    make_all "$results/here" "$target"
    (
        cd "$elsewhere/chatto"
        # A target folder outside would be shared with the build here.
        unset CARGO_TARGET_DIR
        umask 077
        LC_ALL=C.UTF-8 TZ=Asia/Tokyo make_all "$results/elsewhere" "$target"
    )
    rm -rf "$elsewhere/chatto/target/$target"
done
(cd "$results/here" && sha256sum -- *) | tee "$results/SHA256SUMS"
(cd "$results/elsewhere" && sha256sum --check --quiet "$results/SHA256SUMS") || {
    echo "error: the builds differ; both are in $results" >&2
    exit 1
}
rm -rf "$results"
echo "reproduce: the same bytes in two folders, commit $commit"
