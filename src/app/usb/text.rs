//! Texts on sticks and about them.

/// What a person finds on the stick who has nothing but the stick.
pub(super) const README: &str = "\
Backups of a Chatto server
==========================

This stick holds backups that a Chatto server has made. They are encrypted:
without the passphrase nobody can read them, and nobody can restore them.

    bin/chatto-ARCH     the program, for the machine that made the backups
    SERVER-ID/          the backups of one server, numbered: the highest
                        number is the newest one
    SERVER-ID/keys.age  the keys of messages, only if the stick was paired
                        with --with-keys

A backup may be cut into files of 2 GiB, .001, .002 and so on. They belong
together; the commands below take the first one.

Restore on a new machine (64-bit Raspberry Pi OS, Debian, or another Linux)
---------------------------------------------------------------------------

1. Install Chatto, if you have its package. Otherwise copy the program from
   this stick, for example:

       mkdir chatto && cd chatto
       cp /media/STICK/CHATTO/bin/chatto-aarch64 chatto
       chmod +x chatto

2. Stop the server, if it is running:

       sudo systemctl stop chatto

3. Restore the newest backup. It asks for the passphrase:

       chatto restore /media/STICK/CHATTO/SERVER-ID/NUMBER-TIME.tar.gz.age

   With the package, put `sudo` before it, and `-c /etc/chatto/chatto.toml`
   after `restore`. With the copied program, write `./chatto`.

4. Messages can be read only with their keys:

       chatto keys import /media/STICK/CHATTO/SERVER-ID/keys.age

   If there is no keys.age here, the keys are in an export that was kept
   elsewhere. Until they are imported, messages show as placeholders.

5. Start the server: sudo systemctl start chatto, or ./chatto start

Without this program
--------------------

    cat NUMBER-TIME.tar.gz.age* | age -d | tar xz

opens a backup with the tools age (https://age-encryption.org) and tar.
README.txt inside says what the files in it are.
";
