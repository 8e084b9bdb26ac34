//! Texts on sticks and about them.

/// What a person finds on the stick who has nothing but the stick.
pub(super) const README: &str = "\
Backups of a Chatto server
==========================

This stick holds backups that a Chatto server has made. They are encrypted:
without the passphrase nobody can read them, and nobody can restore them.

    bin/chatto-ARCH     the program. That for the machine that makes the
                        backups is always of its version
    SERVER-ID/          the backups of one server, numbered: the highest
                        number is the newest one
    SERVER-ID/keys.age  the keys of messages, only if the stick was paired
                        with --with-keys

A backup may be cut into files of 2 GiB, .001, .002 and so on. They belong
together; the commands below take the first one.

Restore on a new machine (64-bit Raspberry Pi OS, Debian, or another Linux)
---------------------------------------------------------------------------

Find the partition of the stick, here sda1, and mount it, unless a desktop has
done that. In the place of /media/STICK, SERVER-ID and NUMBER-TIME write what
you find.

    lsblk -o NAME,SIZE,FSTYPE,LABEL
    sudo mkdir -p /media/STICK; sudo mount -o ro /dev/sda1 /media/STICK

With the package of Chatto. It has already started an empty server, which the
backup replaces:

    sudo systemctl stop chatto
    sudo chatto restore /media/STICK/CHATTO/SERVER-ID/NUMBER-TIME.tar.gz.age \\
        -c /etc/chatto/chatto.toml --conflict=overwrite
    sudo chatto keys import /media/STICK/CHATTO/SERVER-ID/keys.age \\
        -c /etc/chatto/chatto.toml
    sudo systemctl start chatto

Without the package, with the program on this stick:

    mkdir chatto && cd chatto
    cp /media/STICK/CHATTO/bin/chatto-aarch64 chatto
    chmod +x chatto
    ./chatto restore /media/STICK/CHATTO/SERVER-ID/NUMBER-TIME.tar.gz.age
    ./chatto keys import /media/STICK/CHATTO/SERVER-ID/keys.age
    ./chatto start

chatto-aarch64 is for a Raspberry Pi, chatto-x86_64 for a PC. If you may not
read the files on the stick (ext4), copy them with sudo and chown first.

Each command asks for the passphrase. Messages can be read only with their
keys. If there is no keys.age here, the keys are in an export that was kept
elsewhere; until they are imported, messages show as placeholders.

Without this program
--------------------

    cat NUMBER-TIME.tar.gz.age* | age -d | tar xz

opens a backup with the tools age (https://age-encryption.org) and tar.
README.txt inside says what the files in it are.
";
