"""USB sticks: paired, plugged in, pulled out, full, cut from power, and restored from in another machine."""

import hashlib
import re
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

    def test_pulled_out_and_cut_from_power(self):
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


class Kinds(unittest.TestCase):
    """Kinds of sticks and what is on them; the tests share one machine."""

    @classmethod
    def setUpClass(cls):
        cls.vm, cls.chatto = cls.enterClassContext(server.running())

    def tearDown(self):
        if self.vm.sticks:
            self.vm.pull()

    def backed_up(self, stick, partition, name, keys=True, labelled=1):
        """Pairs a partition of a stick, plugs the stick in again, and waits for the backup; returns the partition's device
        and what the units have logged since the pairing. `labelled` partitions start a unit."""
        refusals = usb.log(self.vm).count("is not paired")
        device = usb.plug(self.vm, stick, partition)
        usb.wait_log(self.vm, "is not paired", refusals + labelled)
        usb.wait_end(self.vm, device)
        usb.pair(self.vm, device, name, keys)
        usb.pull(self.vm, device)
        before = usb.log(self.vm)
        device = usb.plug(self.vm, stick, partition)
        usb.wait_log(self.vm, "Safe to remove", before.count("Safe to remove") + 1)
        usb.wait_end(self.vm, device)
        logged = usb.log(self.vm).removeprefix(before)
        print(logged)
        self.assertIn("verified: ", logged)
        self.assertIn(f"on {name}", logged)
        return device, logged

    def test_exfat_as_macos_formats_it(self):
        # 200 MB on larger sticks; FAT32 needs more than 32 MB.
        stick = usb.make_stick(self.vm.folder / "mac.img", ("vfat", 40, "EFI"), ("exfat", 300, usb.LABEL), table="gpt")
        device, _ = self.backed_up(stick, 2, "Mac")
        listed = self.vm.shell(f"mount -t exfat -o ro {device} /mnt/stick; chatto backup list /mnt/stick/CHATTO/S*;"
                               "umount /mnt/stick")
        self.assertIn("verified", listed)
        usb.pull(self.vm, device)

    def test_ext4(self):
        stick = usb.make_stick(self.vm.folder / "ext4.img", ("ext4", 300, usb.LABEL))
        device, _ = self.backed_up(stick, 1, "Linux")
        usb.pull(self.vm, device)

    def test_two_partitions_of_which_one_is_paired(self):
        stick = usb.make_stick(self.vm.folder / "two.img", ("vfat", 260, usb.LABEL), ("ext4", 60, usb.LABEL))
        before = self.vm.shell("journalctl -b -o cat -u 'chatto-usb-backup@*' | grep -c 'usb pair /dev/sd.2' || true")
        device, logged = self.backed_up(stick, 1, "Two", labelled=2)
        other = device[:-1] + "2"
        # At both times when the stick was plugged in.
        guest.wait_until(lambda: len(re.findall("usb pair /dev/sd.2", usb.log(self.vm))) >= int(before) + 2, 120,
                         "the other partition is refused twice", 1)
        usb.wait_end(self.vm, other)
        self.assertEqual(self.vm.shell(f"mount -o ro {other} /mnt/stick; ls /mnt/stick; umount /mnt/stick").split(),
                         ["lost+found"])
        self.assertEqual(logged.count("Safe to remove"), 1)
        usb.pull(self.vm, device)

    def test_full(self):
        stick = usb.make_stick(self.vm.folder / "full.img", ("vfat", 260, usb.LABEL))
        device, _ = self.backed_up(stick, 1, "Full")
        # A machine that has just started makes no second backup on a stick within 20 hours.
        self.vm.run("date", "-s", "+21 hours")
        # Nothing fits any more; the verified backup is the only one, so it stays.
        before = self.vm.shell(f"mount {device} /mnt/stick; cat /dev/zero >/mnt/stick/large 2>/dev/null || true;"
                               "sync -f /mnt/stick; sha256sum /mnt/stick/CHATTO/S*/0*; umount /mnt/stick", seconds=300)
        result = self.vm.run("chatto", "usb", "run", device, "-c", usb.CONFIG, check=False, seconds=300)
        print(result)
        self.assertEqual(result.code, 74)
        self.assertIn("is full", result.err + result.out)
        after = self.vm.shell(f"mount -o ro {device} /mnt/stick; sha256sum /mnt/stick/CHATTO/S*/0*;"
                              "find /mnt/stick -name '*.partial'; umount /mnt/stick", seconds=300)
        self.assertEqual(after, before, "a backup was changed, or an unfinished one is left")
        usb.pull(self.vm, device)
        # As the unit that udev starts: its result is the same.
        device = usb.plug(self.vm, stick)
        usb.wait_log(self.vm, "is full")
        usb.wait_end(self.vm, device)
        usb.pull(self.vm, device)
        self.assertTrue(self.chatto.is_ready())

    def test_z_restore_without_keys(self):
        self.chatto.post("needs its key")
        texts = self.chatto.texts()
        stick = usb.make_stick(self.vm.folder / "keyless.img", ("vfat", 260, usb.LABEL))
        device, _ = self.backed_up(stick, 1, "Keyless", keys=False)
        options = f"-c {usb.CONFIG} --passphrase-file /etc/chatto/backup-passphrase"
        print(self.vm.shell(f"""
            chatto keys export {options} -o /srv/keys.age 2>&1
            systemctl stop chatto.service
            mv /var/lib/chatto /srv/before
            systemd-tmpfiles --create chatto.conf
            mount -o ro {device} /mnt/stick
            ls -R /mnt/stick
            ! ls /mnt/stick/CHATTO/S*/*keys* 2>/dev/null
            chatto restore /mnt/stick/CHATTO/S*/0*.tar.gz.age {options} --conflict=overwrite 2>&1
            umount /mnt/stick
            systemctl start chatto.service
        """, seconds=400))
        self.chatto.wait_ready()
        self.chatto.log_in()
        self.assertEqual(self.chatto.texts(), [])
        self.chatto.post("written without the keys of before")
        events = self.chatto.events()
        print(self.vm.run("chatto", "status", "-c", usb.CONFIG).out)
        print(self.vm.shell(f"chatto keys import {options} /srv/keys.age 2>&1"))
        self.assertEqual(self.chatto.texts(), [*texts, "written without the keys of before"])
        self.assertEqual(len(self.chatto.events()), len(events), "there was no placeholder")
        usb.pull(self.vm, device)


if __name__ == "__main__":
    unittest.main(verbosity=2)
