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
# Keep local paths out of the binary.
sysroot=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="--remap-path-prefix=$PWD=chatto --remap-path-prefix=$cargo_home=cargo --remap-path-prefix=$sysroot=rust"
# A position-independent program has 800 KB of relocations, in this form a tenth. musl applies them since 1.2.4.
export RUSTFLAGS="$RUSTFLAGS -Clink-arg=--pack-dyn-relocs=relr"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=chatto -ffile-prefix-map=$cargo_home=cargo"
# mimalloc includes its build date. Cargo builds it again when CFLAGS change, but not when SOURCE_DATE_EPOCH does.
CFLAGS="$CFLAGS -Wno-builtin-macro-redefined -D__DATE__=\"none\" -D__TIME__=\"none\""
export CARGO_INCREMENTAL=0

rustup target add "$target" >/dev/null 2>&1 || true
cargo build --locked --bin chatto --target "$target" --profile "$profile"
mkdir -p "out/$target"
folder=$profile
[ "$profile" != dev ] || folder=debug
cp "${CARGO_TARGET_DIR:-target}/$target/$folder/chatto" "out/$target/chatto.new"
mv "out/$target/chatto.new" "out/$target/chatto"
ls -l "out/$target/chatto"
