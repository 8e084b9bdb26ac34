# What the tests of packages, images and the ARM program have in common. Sourced in the top folder; needs curl and jq.
# `call` uses the function in_network, which runs a command where the server can be reached, and the variables url, token.
# shellcheck shell=bash disable=SC2154
token='' room='' registered='' mounted=''

# package_of TARGET deb|rpm|image: the package or image that packaging/build.sh and image.py make of this version
package_of() {
    (target=$1 && . packaging/names.sh && echo "out/${!2}")
}

fail() {
    echo "error: $*" >&2
    exit 1
}

# until_true SECONDS WHAT COMMAND...
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not within the time"
        read -r -t 0.1 <> <(:) || true
    done
}

# shows PATTERN COMMAND...: whether the command's output has it. All of it is read: a command whose reader leaves fails.
shows() {
    local pattern=$1 output
    shift
    output=$("$@" 2>&1) || true
    grep -q -- "$pattern" <<<"$output"
}

# emulate_arm: makes this machine run 64-bit ARM programs like its own, until stop_emulating; fails where it cannot be done
emulate_arm() {
    local qemu binfmt=/proc/sys/fs/binfmt_misc name=chatto-test-aarch64-$$ magic mask
    qemu=$(command -v qemu-aarch64-static) || fail 'qemu-aarch64-static is missing: apt install qemu-user-static'
    [ "$(id -u)" = 0 ] || return 1
    if [ ! -e $binfmt/register ] && mount -t binfmt_misc binfmt_misc $binfmt 2>/dev/null; then
        mounted=$binfmt
    fi
    # Debian's magic and flags: the interpreter is opened now (F), gets the file open (O) and its first argument
    # unchanged (P), so that execution from a memfd works.
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":$name:M::$magic:$mask:$qemu:OPF" 2>/dev/null >$binfmt/register || return 1
    registered=$binfmt/$name
}

stop_emulating() {
    [ -z "$registered" ] || echo -1 >"$registered"
    [ -z "$mounted" ] || umount "$mounted" || true
    registered='' mounted=''
}

# call PATH JSON: a request to the server
call() {
    in_network curl -sS --fail-with-body -m 60 -H 'Content-Type: application/json' \
        ${token:+-H "Authorization: Bearer $token"} -d "$2" "$url$1"
}

is_ready() {
    in_network curl -sS -f -m 2 "$url/readyz"
}

# first_message LINK TEXT: the owner creates an account with the setup link and writes into the room `general`
first_message() {
    token=''
    token=$(call /auth/setup "{\"token\":\"${1##*#}\",\"login\":\"ada\",\"displayName\":\"Ada\",\"password\":\"correct horse battery\"}" | jq -r .token)
    room=$(call /api/connect/chatto.api.v1.RoomDirectoryService/ListRooms '{}' | jq -r '.rooms[] | select(.room.name == "general") | .room.id')
    call /api/connect/chatto.api.v1.RoomService/JoinRoom "{\"roomId\":\"$room\"}" >/dev/null
    call /api/connect/chatto.api.v1.MessageService/CreateMessage "{\"roomId\":\"$room\",\"body\":\"$2\"}" >/dev/null
}

# The owner logs in; a restore ends all sessions.
log_in() {
    token=''
    token=$(call /auth/login '{"identifier":"ada","password":"correct horse battery"}' | jq -r .token)
}

# The newest texts of the room.
texts() {
    call /api/connect/chatto.api.v1.RoomService/GetRoomEvents "{\"roomId\":\"$room\",\"limit\":100}"
}
