#!/bin/sh
# Builds the static chatto binary with the nats-server of the same architecture inside:
#   cross/build.sh TARGET [PROFILE]
# TARGET is x86_64-unknown-linux-musl or aarch64-unknown-linux-musl; PROFILE is release (default), quick or
# dev. The result is out/TARGET/chatto; its bytes do not depend on the build directory.
set -eu
target=${1:?usage: build.sh TARGET [PROFILE]}
profile=${2:-release}
cd "$(dirname "$0")/.."
case "$target" in
x86_64-unknown-linux-musl | aarch64-unknown-linux-musl) ;;
*)
	echo "error: chatto is not built for $target" >&2
	exit 2
	;;
esac

umask 022
export LC_ALL=C TZ=UTC
# mimalloc includes its build date; use the time of the commit instead.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
fi
export SOURCE_DATE_EPOCH
# Keep local paths out of the binary.
sysroot=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="--remap-path-prefix=$PWD=chatto --remap-path-prefix=$cargo_home=cargo --remap-path-prefix=$sysroot=rust"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=chatto -ffile-prefix-map=$cargo_home=cargo"
export CARGO_INCREMENTAL=0

rustup target add "$target" >/dev/null 2>&1 || true
cargo build --locked --bin chatto --target "$target" --profile "$profile"
mkdir -p "out/$target"
folder=$profile
[ "$profile" != dev ] || folder=debug
cp "${CARGO_TARGET_DIR:-target}/$target/$folder/chatto" "out/$target/chatto.new"
mv "out/$target/chatto.new" "out/$target/chatto"
ls -l "out/$target/chatto"
