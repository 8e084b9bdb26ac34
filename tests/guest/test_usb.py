"""USB sticks: paired, plugged in, pulled out, full, cut from power, and restored from in another machine."""

import hashlib
import unittest

import guest
import server

LABEL = "CHATTO-BKP"
MAKERS = {
    "vfat": ["mkfs.vfat", "-F", "32", "-n"],
    "exfat": ["mkfs.exfat", "-L"],
    "ext4": ["mke2fs", "-q", "-t", "ext4", "-L"],
}


def make_stick(path, *partitions):
    """The image of a stick with a partition table; a partition is kind, MiB and label."""
    start, table, contents = 1, "label: dos\n", []
    for kind, size, label in partitions:
        part = path.with_suffix(f".{len(contents)}")
        with open(part, "wb") as file:
            file.truncate(size << 20)
        guest.run_on_host(*MAKERS[kind], label, str(part))
        # 83 is Linux, 7 is exFAT, c is FAT32.
        table += f"start={start * 2048}, size={size * 2048}, type={dict(vfat='c', exfat='7', ext4='83')[kind]}\n"
        contents.append((start, part))
        start += size
    with open(path, "wb") as file:
        file.truncate((start + 1) << 20)
    path.with_suffix(".table").write_text(table)
    guest.run_on_host("sh", "-c", f"sfdisk -q '{path}' <'{path.with_suffix('.table')}'")
    for offset, part in contents:
        guest.run_on_host("dd", f"if={part}", f"of={path}", "bs=1M", f"seek={offset}", "conv=notrunc,sparse")
        part.unlink()
    return path


def digest(path):
    """The SHA-256 of a stick."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Sticks(unittest.TestCase):
    """Each test boots a machine of its own."""

    def plug(self, vm, stick, partition=1, name="stick"):
        """Plugs a stick in; returns the partition's device."""
        vm.plug(stick, name)
        link = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{name}-0:0-part{partition}"
        guest.wait_until(lambda: vm.run("test", "-e", link, check=False).code == 0, 120, "the stick is there")
        device = vm.run("readlink", "-f", link).out.strip()
        return device

    def pull(self, vm, device, name="stick"):
        vm.pull(name)
        guest.wait_until(lambda: vm.run("test", "-e", device, check=False).code != 0, 120, "the stick is gone")

    def unit(self, device):
        return f"chatto-usb-backup@{device.removeprefix('/dev/')}.service"

    def log(self, vm):
        return vm.shell("journalctl -b --no-pager -o cat -u 'chatto-usb-backup@*'")

    def wait_log(self, vm, text, count=1, seconds=300):
        guest.wait_until(lambda: self.log(vm).count(text) >= count, seconds, f"'{text}' in the journal")

    def wait_end(self, vm, device):
        def ended():
            state = vm.run("systemctl", "show", "-p", "ActiveState", "--value", self.unit(device)).out.strip()
            return state in ("inactive", "failed")
        guest.wait_until(ended, 300, "the unit has ended")

    def pair(self, vm, device, name):
        vm.run("chatto", "usb", "pair", "-c", "/etc/chatto/chatto.toml", device, "--name", name, "--with-keys", "--yes")

    def test_from_pairing_to_a_restore_in_another_machine(self):
        with server.running() as (vm, chatto):
            stick = make_stick(vm.folder / "blue.img", ("ext4", 40, "other"), ("vfat", 300, LABEL))
            before = digest(stick)
            device = self.plug(vm, stick, 2)
            self.wait_log(vm, "is not paired")
            self.wait_end(vm, device)
            self.pull(vm, device)
            self.assertEqual(digest(stick), before, "a stick that is not paired was written to")
            self.assertEqual(vm.run("systemctl", "--failed", "--plain", "--no-legend").out, "")

            device = self.plug(vm, stick, 2)
            self.wait_log(vm, "is not paired", 2)
            self.wait_end(vm, device)
            self.pair(vm, device, "Blue")
            self.pull(vm, device)
            chatto.post("on the stick")
            device = self.plug(vm, stick, 2)
            self.wait_log(vm, "Safe to remove")
            self.wait_end(vm, device)
            print(self.log(vm))
            self.assertIn("verified", self.log(vm))
            self.assertIn("Blue", vm.run("chatto", "usb", "list", "-c", "/etc/chatto/chatto.toml").out)
            self.pull(vm, device)
            image, _, payload, _ = server.installed()
            with guest.Guest(image, payload=payload) as other:
                vm.shut_down()
                other.boot()
                restored = server.Server(other)
                restored.install()
                restored.wait_ready()
                other.run("systemctl", "stop", "chatto.service")
                device = self.plug(other, stick, 2)
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
                stick = make_stick(vm.folder / f"{kind}.img", (kind, 300, LABEL))
                device = self.plug(vm, stick)
                self.wait_log(vm, "is not paired", count)
                self.wait_end(vm, device)
                self.pair(vm, device, kind)
                self.pull(vm, device)
                device = self.plug(vm, stick)
                self.wait_log(vm, "Safe to remove", count)
                self.wait_end(vm, device)
                self.pull(vm, device)
            print(self.log(vm))

    def test_pulled_out_full_and_cut_from_power(self):
        with server.running() as (vm, chatto):
            stick = make_stick(vm.folder / "red.img", ("vfat", 300, LABEL))
            device = self.plug(vm, stick)
            self.wait_end(vm, device)
            self.pair(vm, device, "Red")
            self.pull(vm, device)
            # Pulled out in the middle.
            device = self.plug(vm, stick)
            self.wait_log(vm, "is running")
            self.pull(vm, device)
            self.wait_end(vm, device)
            print(self.log(vm))
            self.assertNotIn("Safe to remove", self.log(vm))
            self.assertTrue(chatto.is_ready())
            # The power fails in the middle.
            device = self.plug(vm, stick)
            self.wait_log(vm, "is running", 2)
            vm.cut_power(0.5)
            vm.boot()
            chatto.wait_ready()
            device = self.plug(vm, stick)
            self.wait_log(vm, "Safe to remove")
            self.wait_end(vm, device)
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
