"""Data directories on other file systems and on disks that fail."""

import unittest

import guest
import server

# A file in the guest as a disk, larger than the free space that the server insists on (512 MB): linear at first, later a device that fails every write.
DEVICE = """
systemctl stop chatto.service
truncate -s 1500M /srv/data.img
loop=$(losetup -f --show /srv/data.img)
modprobe dm_flakey
echo "0 $(blockdev --getsz $loop) linear $loop 0" | dmsetup create data
"""
MOVE = """
mount /dev/mapper/data /mnt/stick OPTIONS
cp -rT /var/lib/chatto /mnt/stick
umount /mnt/stick
mount /dev/mapper/data /var/lib/chatto OPTIONS
"""


class Disks(unittest.TestCase):
    """A data directory that is not on the root's ext4."""

    def test_vfat(self):
        with server.running() as (vm, chatto):
            vm.shell(DEVICE + "mkfs.vfat -F 32 /dev/mapper/data\n"
                     + MOVE.replace("OPTIONS", "-o uid=chatto,gid=chatto,umask=077"))
            started = vm.run("systemctl", "start", "chatto.service", check=False, seconds=300)
            print(started, chatto.journal()[-2500:])
            if started.code == 0:
                chatto.wait_ready()
                with server.Burst(chatto, "vfat") as burst:
                    burst.wait(20)
                    vm.shell("kill -9 " + " ".join(server.processes(vm)))
                chatto.wait_ready()
                self.assertEqual(set(burst.acknowledged) - set(chatto.texts()), set())
            else:
                # A clear error, and no start after start.
                self.assertIn("vfat", chatto.journal().lower())

    def test_a_disk_that_fails_writes(self):
        with server.running() as (vm, chatto):
            vm.shell(DEVICE + "mke2fs -q -t ext4 /dev/mapper/data\n"
                     + MOVE.replace("OPTIONS", "") + "chown -R chatto: /var/lib/chatto; systemctl start chatto.service",
                     seconds=300)
            chatto.wait_ready()
            with server.Burst(chatto, "failing") as burst:
                burst.wait(20)
                vm.shell("table=$(dmsetup table data); dmsetup suspend --noflush --nolockfs data; set -- $table;"
                         "dmsetup load data --table \"0 $2 flakey $4 0 0 3600 1 error_writes\"; dmsetup resume data")
                guest.wait_until(lambda: not chatto.is_ready(), 120, "chatto says that it is not ready")
                count = len(burst.acknowledged)
            print(chatto.show("StatusText"), count, len(burst.acknowledged))
            vm.shell("systemctl stop chatto.service; umount /var/lib/chatto; set -- $(dmsetup table data);"
                     "dmsetup suspend --noflush --nolockfs data; dmsetup load data --table \"0 $2 linear $4 0\";"
                     "dmsetup resume data; e2fsck -fy /dev/mapper/data || test $? = 1;"
                     "mount /dev/mapper/data /var/lib/chatto; systemctl start chatto.service", seconds=300)
            chatto.wait_ready()
            self.assertEqual(set(burst.acknowledged) - set(chatto.texts()), set())
            chatto.post("after the repair")


if __name__ == "__main__":
    unittest.main(verbosity=2)
