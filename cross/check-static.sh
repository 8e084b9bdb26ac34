#!/bin/sh
# Compares a built binary and the nats-server inside it with cross/expected/TARGET.txt:
#   cross/check-static.sh TARGET [BINARY]
# BINARY defaults to out/TARGET/chatto. Needs readelf, strings and Go (to build the same nats-server again).
# UPDATE=1 writes the expected file instead; review the diff.
set -eu
target=${1:?usage: check-static.sh TARGET [BINARY]}
cd "$(dirname "$0")/.."
binary=${2:-out/$target/chatto}
expected=cross/expected/$target.txt
ceiling_bytes=23068672 # 22 MiB
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C

# Prints the relevant properties from the program headers of one file.
facts() {
	readelf -Wh "$1" | sed -n 's/^ *\(Class\|Type\|Machine\): */\1: /p' | sed 's/ (.*//'
	segments=$(readelf -Wl "$1" 2>/dev/null)
	if echo "$segments" | grep -q INTERP; then echo "Interpreter: yes"; else echo "Interpreter: no"; fi
	if readelf -Wd "$1" 2>/dev/null | grep -q NEEDED; then echo "Libraries: yes"; else echo "Libraries: no"; fi
	echo "$segments" | awk '/GNU_STACK/ { seen = $7 } END { print "Stack: " (seen == "" ? "unsaid" : seen) }'
	if echo "$segments" | grep -q GNU_RELRO; then echo "Read-only relocations: yes"; else echo "Read-only relocations: no"; fi
	for align in $(echo "$segments" | awk '$1 == "LOAD" { print $NF }' | sort -u); do
		# The default kernel of the Raspberry Pi 5 uses pages of 16 KiB.
		if [ $((align)) -ge 16384 ]; then echo "Load alignment: 16 KiB or more"; else echo "Load alignment: below 16 KiB"; fi
	done | sort -u
}

cross/nats-server/build.sh "$target" "$work/nats-server"
{
	echo "[chatto]"
	facts "$binary"
	echo
	echo "[nats-server]"
	facts "$work/nats-server"
} >"$work/facts"

if [ "${UPDATE:-}" = 1 ]; then
	cp "$work/facts" "$expected"
fi
diff -u "$expected" "$work/facts" || {
	echo "error: $binary does not match $expected" >&2
	exit 1
}

# The bundled server must be the one just built: the binary contains its SHA-256.
hash=$(sha256sum "$work/nats-server" | cut -d' ' -f1)
od -An -v -tx1 "$binary" | tr -d ' \n' | grep -q "$hash" || {
	echo "error: the nats-server in $binary is not the one that cross/nats-server builds" >&2
	exit 1
}
for path in "$PWD/" "$HOME/" /home/ /root/; do
	if cat "$binary" "$work/nats-server" | strings -n 6 | grep -qF "$path"; then
		echo "error: $binary or its nats-server contains the local path $path" >&2
		exit 1
	fi
done
if strings -n 6 "$binary" | grep -qF /auth/test; then
	echo "error: $binary is a test build (feature test-support)" >&2
	exit 1
fi
size=$(wc -c <"$binary")
if [ "$size" -gt "$ceiling_bytes" ]; then
	echo "error: $binary has $size bytes, the limit is $ceiling_bytes" >&2
	exit 1
fi
echo "$binary: static, $size bytes, nats-server $hash"
