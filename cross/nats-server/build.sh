#!/bin/sh
# Builds the pinned nats-server for a Rust target: build.sh TARGET OUT
# TARGET: x86_64-unknown-linux-musl or aarch64-unknown-linux-musl. The result is static, stripped and reproducible.
set -eu
target=${1:?usage: build.sh TARGET OUT}
out=${2:?usage: build.sh TARGET OUT}
case "$target" in
x86_64-*) arch=amd64 ;;
aarch64-*) arch=arm64 ;;
*)
	echo "error: nats-server is not built for $target" >&2
	exit 2
	;;
esac
case "$out" in /*) ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")"
CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOAMD64=v1 GOARM64=v8.0 \
	GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off \
	exec go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o "$out" github.com/nats-io/nats-server/v2
