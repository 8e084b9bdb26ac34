#!/usr/bin/env bash
# Makes the packages of one architecture from a finished binary, offline:
#   packaging/build.sh TARGET [KIND...]
# TARGET is x86_64-unknown-linux-musl or aarch64-unknown-linux-musl, KIND is deb or rpm (default: both). The binary is
# out/TARGET/chatto (cross/build.sh), or the file that CHATTO_PACKAGE_BINARY names. The packages are in out/. Their bytes
# depend on the binary and on the commit only. CHATTO_PACKAGE_COMPRESSION=none saves the minute that compressing the .deb
# of an unoptimised binary takes, for tests; CHATTO_PACKAGE_DIR is another folder for the packages.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: build.sh TARGET [deb|rpm...]}
shift
. packaging/names.sh
[ $# -gt 0 ] || set -- deb rpm
objcopy=objcopy
[ "$(uname -m)" = "${target%%-*}" ] || objcopy=${target%%-*}-linux-gnu-objcopy
binary=${CHATTO_PACKAGE_BINARY:-out/$target/chatto}
[ -f "$binary" ] || {
    echo "error: $binary is missing; cross/build.sh $target makes it" >&2
    exit 1
}

umask 022
export LC_ALL=C TZ=UTC
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
out=${CHATTO_PACKAGE_DIR:-out}
compression=${CHATTO_PACKAGE_COMPRESSION:-xz}
date=$(date -R -d "@$SOURCE_DATE_EPOCH")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# put MODE FILE TARGET: a file of the package
put() {
    install -D -m "$1" "$2" "$root/$3"
}

# packed FILE: gzip without name and time
packed() {
    gzip -9n <"$1" >"$work/packed.gz"
    echo "$work/packed.gz"
}

# What both kinds have. $1: the folder of zsh's completions, which differs between the systems.
common() {
    # Without the compiler's name, which lintian asks for.
    "$objcopy" --remove-section .comment "$binary" "$work/chatto"
    put 755 "$work/chatto" usr/bin/chatto
    put 640 packaging/chatto.toml etc/chatto/chatto.toml
    chmod 750 "$root/etc/chatto"
    local unit
    for unit in systemd/*.service systemd/*.timer; do
        put 644 "$unit" "usr/lib/systemd/system/${unit##*/}"
    done
    put 644 systemd/chatto.sysusers usr/lib/sysusers.d/chatto.conf
    put 644 systemd/chatto.tmpfiles usr/lib/tmpfiles.d/chatto.conf
    for unit in systemd/*.rules; do
        [ ! -e "$unit" ] || put 644 "$unit" "usr/lib/udev/rules.d/${unit##*/}"
    done
    put 644 "$(packed packaging/man/chatto.1)" usr/share/man/man1/chatto.1.gz
    put 644 "$(packed packaging/man/chatto.toml.5)" usr/share/man/man5/chatto.toml.5.gz
    put 644 packaging/completions/chatto.bash usr/share/bash-completion/completions/chatto
    put 644 packaging/completions/_chatto "$1/_chatto"
    put 644 packaging/completions/chatto.fish usr/share/fish/vendor_completions.d/chatto.fish
    put 644 "$(packed "$work/licences")" usr/share/doc/chatto/THIRD-PARTY-LICENSES.gz
    put 644 packaging/copyright usr/share/doc/chatto/copyright
}

clamp_times() {
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

build_deb() {
    root=$work/deb
    mkdir -p "$root/DEBIAN"
    common usr/share/zsh/vendor-completions
    {
        printf 'chatto (%s-%s) unstable; urgency=medium\n\n' "$version" "$release"
        printf '  * Release %s; see CHANGELOG.md.gz for what changed.\n\n' "$version"
        printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' packaging/deb/control.in)" "$date"
    } >"$work/changelog"
    put 644 "$(packed "$work/changelog")" usr/share/doc/chatto/changelog.Debian.gz
    put 644 "$(packed CHANGELOG.md)" usr/share/doc/chatto/changelog.gz
    put 644 packaging/deb/lintian-overrides usr/share/lintian/overrides/chatto

    local size script
    size=$(find "$root" -path "$root/DEBIAN" -prune -o -type f -printf '%s\n' | awk '{ k += int(($1 + 1023) / 1024) } END { print k }')
    sed -e "s/@VERSION@/$version-$release/; s/@ARCH@/$deb_arch/; s/@SIZE@/$size/" packaging/deb/control.in >"$root/DEBIAN/control"
    echo /etc/chatto/chatto.toml >"$root/DEBIAN/conffiles"
    for script in postinst prerm postrm; do
        install -m 755 "packaging/deb/$script" "$root/DEBIAN/$script"
    done
    (cd "$root" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$work/md5sums"
    install -m 644 "$work/md5sums" "$root/DEBIAN/md5sums"
    clamp_times
    # xz, which every dpkg can read; one thread, because the bytes depend on their number.
    dpkg-deb --root-owner-group "-Z$compression" -z9 --threads-max=1 --build "$root" "$out/$deb" >/dev/null
    echo "$out/$deb"
}

build_rpm() {
    root=$work/rpm
    common usr/share/zsh/site-functions
    put 644 "$(packed CHANGELOG.md)" usr/share/doc/chatto/CHANGELOG.md.gz
    put 644 LICENSE usr/share/licenses/chatto/LICENSE
    mkdir -p "$root/var/lib/chatto/backups"
    clamp_times
    # One thread: the bytes depend on their number.
    rpmbuild -bb --quiet --target "$rpm_arch-linux" --noclean \
        --define "_topdir $work/rpmbuild" --define "_rpmdir $work" --define "staged $root" \
        --define "version_of_cargo $version" --define "changelog_date $(date -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" \
        --define '_binary_payload w9.xzdio' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' --define '_buildhost reproducible' packaging/rpm/chatto.spec
    mv "$work/$rpm_arch/$rpm" "$out/$rpm"
    echo "$out/$rpm"
}

mkdir -p "$out"
packaging/inventory.py licences "$target" >"$work/licences"
for kind in "$@"; do
    "build_$kind"
done
