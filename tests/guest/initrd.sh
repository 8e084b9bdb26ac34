#!/bin/busybox sh
# Mounts /dev/vda and starts its init: the first program of the guest.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in /lib/*.ko; do
    /bin/busybox insmod "$module"
done
until [ -b /dev/vda ]; do
    /bin/busybox usleep 20000
done
/bin/busybox mount -t ext4 -o ro /dev/vda /disk
/bin/busybox umount /proc
/bin/busybox mount --move /dev /disk/dev
exec /bin/busybox switch_root /disk /sbin/init
