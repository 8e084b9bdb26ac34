# Sourced: what the architecture of $target is called in packages, and the names of its packages and image. Images use Debian's
# names of architectures inside.
# shellcheck shell=bash disable=SC2034,SC2154
case "$target" in
x86_64-unknown-linux-musl) deb_arch=amd64 rpm_arch=x86_64 ;;
aarch64-unknown-linux-musl) deb_arch=arm64 rpm_arch=aarch64 ;;
*)
    echo "error: chatto is not packaged for $target" >&2
    exit 2
    ;;
esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
release=1
deb=chatto_$version-${release}_$deb_arch.deb
rpm=chatto-$version-$release.$rpm_arch.rpm
image=chatto-$version-$rpm_arch.oci.tar
bom=chatto-$target.cdx.json
