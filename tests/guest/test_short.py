"""The short run: the package from its installation to a restore from a stick, in one boot."""

import unittest

import guest
import server
import usb


class Short(unittest.TestCase):
    """What an administrator does, in this order. It prints how long each part takes."""

    def test_from_the_installation_to_a_restore_from_a_stick(self):
        with guest.phase("image of Debian"):
            image = guest.make_image()
        with guest.phase("package"):
            payload = server.payload(server.build_package())
        with guest.Guest(image, payload=payload) as vm:
            with guest.phase("boot"):
                vm.boot()
            chatto = server.Server(vm)
            with guest.phase("installation"):
                chatto.install_quickly()
            with guest.phase("service ready"):
                chatto.wait_ready()
                self.assertEqual(chatto.show("StatusText")[:7], "serving")
            with guest.phase("first account and message"):
                chatto.set_up()
                chatto.post("before the backups")
                chatto.passphrase()
            with guest.phase("backup unit"):
                vm.run("systemctl", "start", "chatto-backup.service", seconds=300)
                self.assertIn("verified", vm.run("chatto", "backup", "list", "/var/lib/chatto/backups").out)
            with guest.phase("stick: not paired, paired"):
                stick = usb.make_stick(vm.folder / "blue.img", ("vfat", 200, usb.LABEL))
                device = usb.plug(vm, stick)
                usb.wait_log(vm, "is not paired")
                usb.wait_end(vm, device)
                usb.pair(vm, device, "Blue")
                usb.pull(vm, device)
            chatto.post("on the stick")
            with guest.phase("stick: backup"):
                device = usb.plug(vm, stick)
                usb.wait_log(vm, "Safe to remove")
                usb.wait_end(vm, device)
                self.assertIn("verified: ", usb.log(vm))
            chatto.post("after the backup")
            with guest.phase("restore from the stick alone"):
                self.restore(vm, device)
            with guest.phase("service ready, message"):
                vm.run("systemctl", "start", "chatto.service", seconds=300)
                chatto.wait_ready()
                chatto.log_in()
                texts = chatto.texts()
                self.assertEqual([text for text in texts if "the" in text], ["before the backups", "on the stick"])
            self.assertEqual(vm.run("systemctl", "--failed", "--plain", "--no-legend").out, "")

    def restore(self, vm, device):
        """Moves the data directory away, and restores from the stick as docs/usb-backup.md says."""
        vm.shell(f"""
            systemctl stop chatto.service
            mv /var/lib/chatto /srv/old
            systemd-tmpfiles --create chatto.conf
            mount -o ro {device} /mnt/stick
        """)
        vm.write("/srv/passphrase", server.PASSPHRASE + "\n", mode="600")
        options = f"-c {usb.CONFIG} --passphrase-file /srv/passphrase"
        print(vm.shell(f"""
            chatto restore /mnt/stick/CHATTO/*/0*.tar.gz.age {options} --conflict=overwrite 2>&1
            chatto keys import /mnt/stick/CHATTO/*/keys.age {options} 2>&1
            umount /mnt/stick
        """, seconds=300))


if __name__ == "__main__":
    unittest.main(verbosity=2)
