"""USB sticks: paired, plugged in, pulled out, full, cut from power, and restored from in another machine."""

import hashlib
import unittest

import guest
import server
import usb

def digest(path):
    """The SHA-256 of a stick."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Sticks(unittest.TestCase):
    """Each test boots a machine of its own."""

    def test_from_pairing_to_a_restore_in_another_machine(self):
        with server.running() as (vm, chatto):
            stick = usb.make_stick(vm.folder / "blue.img", ("ext4", 40, "other"), ("vfat", 300, usb.LABEL))
            before = digest(stick)
            device = usb.plug(vm, stick, 2)
            usb.wait_log(vm, "is not paired")
            usb.wait_end(vm, device)
            usb.pull(vm, device)
            self.assertEqual(digest(stick), before, "a stick that is not paired was written to")
            self.assertEqual(vm.run("systemctl", "--failed", "--plain", "--no-legend").out, "")

            device = usb.plug(vm, stick, 2)
            usb.wait_log(vm, "is not paired", 2)
            usb.wait_end(vm, device)
            usb.pair(vm, device, "Blue")
            usb.pull(vm, device)
            chatto.post("on the stick")
            device = usb.plug(vm, stick, 2)
            usb.wait_log(vm, "Safe to remove")
            usb.wait_end(vm, device)
            print(usb.log(vm))
            self.assertIn("verified", usb.log(vm))
            self.assertIn("Blue", vm.run("chatto", "usb", "list", "-c", "/etc/chatto/chatto.toml").out)
            usb.pull(vm, device)
            image, _, payload, _ = server.installed()
            with guest.Guest(image, payload=payload) as other:
                vm.shut_down()
                other.boot()
                restored = server.Server(other)
                restored.install()
                restored.wait_ready()
                other.run("systemctl", "stop", "chatto.service")
                device = usb.plug(other, stick, 2)
                other.shell(f"mount -o ro {device} /mnt/stick")
                other.write("/srv/passphrase", server.PASSPHRASE + "\n", mode="600")
                options = "-c /etc/chatto/chatto.toml --passphrase-file /srv/passphrase"
                print(other.shell(f"ls -lR /mnt/stick; archive=$(ls /mnt/stick/CHATTO/*/*.tar.gz.age | tail -n 1);"
                                  f"chatto restore $archive --conflict=overwrite {options} 2>&1;"
                                  f"chatto keys import /mnt/stick/CHATTO/*/keys.age {options} 2>&1", seconds=300))
                other.run("systemctl", "start", "chatto.service")
                restored.wait_ready()
                restored.log_in()
                self.assertIn("on the stick", restored.texts())
                self.assertIn("the first message", restored.texts())

    def test_exfat_and_ext4(self):
        with server.running() as (vm, _):
            for count, kind in enumerate(("exfat", "ext4"), 1):
                stick = usb.make_stick(vm.folder / f"{kind}.img", (kind, 300, usb.LABEL))
                device = usb.plug(vm, stick)
                usb.wait_log(vm, "is not paired", count)
                usb.wait_end(vm, device)
                usb.pair(vm, device, kind)
                usb.pull(vm, device)
                device = usb.plug(vm, stick)
                usb.wait_log(vm, "Safe to remove", count)
                usb.wait_end(vm, device)
                usb.pull(vm, device)
            print(usb.log(vm))

    def test_pulled_out_full_and_cut_from_power(self):
        with server.running() as (vm, chatto):
            stick = usb.make_stick(vm.folder / "red.img", ("vfat", 300, usb.LABEL))
            device = usb.plug(vm, stick)
            usb.wait_end(vm, device)
            usb.pair(vm, device, "Red")
            usb.pull(vm, device)
            # Pulled out in the middle.
            device = usb.plug(vm, stick)
            usb.wait_log(vm, "is running")
            usb.pull(vm, device)
            usb.wait_end(vm, device)
            print(usb.log(vm))
            self.assertNotIn("Safe to remove", usb.log(vm))
            self.assertTrue(chatto.is_ready())
            # The power fails in the middle.
            device = usb.plug(vm, stick)
            usb.wait_log(vm, "is running", 2)
            vm.cut_power(0.5)
            vm.boot()
            chatto.wait_ready()
            device = usb.plug(vm, stick)
            usb.wait_log(vm, "Safe to remove")
            usb.wait_end(vm, device)
            self.assertEqual(vm.shell(f"mount -o ro {device} /mnt/stick; find /mnt/stick -name '*.partial'; umount /mnt/stick"), "")
            # Nothing fits any more.
            vm.shell(f"mount {device} /mnt/stick; rm -rf /mnt/stick/CHATTO/*/0*; "
                     "cat /dev/zero >/mnt/stick/large 2>/dev/null || true; umount /mnt/stick")
            result = vm.run("chatto", "usb", "run", device, "-c", "/etc/chatto/chatto.toml", check=False, seconds=300)
            print(result)
            self.assertEqual(result.code, 74)
            self.assertIn("is full", result.err + result.out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
