# Sourced by build.sh and check.sh: what the architecture of $target is called in packages. Images use Debian's names.
# shellcheck shell=bash disable=SC2034,SC2154
case "$target" in
x86_64-unknown-linux-musl) deb_arch=amd64 rpm_arch=x86_64 ;;
aarch64-unknown-linux-musl) deb_arch=arm64 rpm_arch=aarch64 ;;
*)
    echo "error: chatto is not packaged for $target" >&2
    exit 2
    ;;
esac
