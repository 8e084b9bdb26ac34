"""USB sticks: their images, pairing, and what the unit that udev starts has done."""

import guest

LABEL = "CHATTO-BKP"
CONFIG = "/etc/chatto/chatto.toml"
MAKERS = {
    "vfat": ["mkfs.vfat", "-F", "32", "-n"],
    "exfat": ["mkfs.exfat", "-L"],
    "ext4": ["mke2fs", "-q", "-t", "ext4", "-L"],
}
# The types of partitions of both kinds of tables: 83 is Linux, 7 is exFAT, c is FAT32.
DOS_TYPES = {"vfat": "c", "exfat": "7", "ext4": "83"}
BASIC_DATA, EFI = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
GPT_TYPES = {"vfat": BASIC_DATA, "exfat": BASIC_DATA, "ext4": "0FC63DAF-8483-4772-8E79-3D69D8477DE4"}


def make_stick(path, *partitions, table="dos"):
    """The image of a stick with a partition table; a partition is kind, MiB and label. A label `EFI` in a table `gpt` is
    what macOS makes at the start of every stick."""
    start, lines, contents = 1, [f"label: {table}"], []
    for kind, size, label in partitions:
        part = path.with_suffix(f".{len(contents)}")
        with open(part, "wb") as file:
            file.truncate(size << 20)
        guest.run_on_host(*MAKERS[kind], label, str(part))
        type_ = EFI if (table, label) == ("gpt", "EFI") else (DOS_TYPES if table == "dos" else GPT_TYPES)[kind]
        lines.append(f"start={start * 2048}, size={size * 2048}, type={type_}")
        contents.append((start, part))
        start += size
    with open(path, "wb") as file:
        # A GPT has a copy at the end.
        file.truncate((start + 1) << 20)
    path.with_suffix(".table").write_text("\n".join(lines) + "\n")
    guest.run_on_host("sh", "-c", f"sfdisk -q '{path}' <'{path.with_suffix('.table')}'")
    for offset, part in contents:
        guest.run_on_host("dd", f"if={part}", f"of={path}", "bs=1M", f"seek={offset}", "conv=notrunc,sparse")
        part.unlink()
    return path


def plug(vm, stick, partition=1, name="stick"):
    """Plugs a stick in; returns the partition's device."""
    vm.plug(stick, name)
    link = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{name}-0:0-part{partition}"
    return guest.wait_until(lambda: vm.run("realpath", "-e", link, check=False).out.strip(), 120, "the stick is there", 0.5)


def pull(vm, device, name="stick"):
    """Pulls a stick out and waits until the machine has noticed."""
    vm.pull(name)
    guest.wait_until(lambda: vm.run("test", "-e", device, check=False).code != 0, 120, "the stick is gone", 0.5)


def unit(device):
    """The unit of a partition."""
    return f"chatto-usb-backup@{device.removeprefix('/dev/')}.service"


def log(vm):
    """What the units of all sticks have logged in this boot."""
    # It fails while there is no such unit.
    return vm.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", "chatto-usb-backup@*", check=False).out


def wait_log(vm, text, count=1, seconds=300):
    """Waits until a text was logged so often in this boot."""
    guest.wait_until(lambda: log(vm).count(text) >= count, seconds, f"'{text}' in the journal", 1)


def wait_end(vm, device, seconds=300):
    """Waits until the unit of a partition has ended."""
    def ended():
        state = vm.run("systemctl", "show", "-p", "ActiveState", "--value", unit(device)).out.strip()
        return state in ("inactive", "failed")
    guest.wait_until(ended, seconds, "the unit has ended", 1)


def pair(vm, device, name, keys=True):
    """Pairs a stick."""
    return vm.run("chatto", "usb", "pair", "-c", CONFIG, device, "--name", name,
                  "--with-keys" if keys else "--without-keys", "--yes")
