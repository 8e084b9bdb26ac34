"""A Debian guest in qemu: boots it, runs commands in it, plugs USB sticks, cuts its power.

Uses the standard library only. Commands run through qemu's guest agent, which returns exit codes and output; devices
are changed over QMP; chatto's port is forwarded to a free port of 127.0.0.1. No KVM: everything is emulated (TCG), so
deadlines are long.

What a power cut leaves. Killing qemu alone would be too kind: everything that the guest has written is in the page cache
of this machine, also what a disk would have had in its own cache only. So the disk of a guest is a file and a log of
writes (qemu's `blklogwrites`): the disk tells the guest that it has a cache that loses its contents, and the log holds
every write and flush in order. After a cut the disk is made again from its state at the boot and the log up to the last
flush. Of the later writes it gets none, or a part at random, as disks may write in any order.
"""

import base64
import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "target" / "guest"
RUNS = CACHE / "runs"
CACHE.mkdir(parents=True, exist_ok=True)
# Boot takes 30 s on an idle machine with two cores, and several times that next to a compiler.
BOOT_SECONDS = int(os.environ.get("CHATTO_GUEST_BOOT_SECONDS", "300"))


def wait_until(condition, seconds, what, pause=0.1):
    """Returns the first true value of `condition()`; fails after the seconds. A condition that runs a command in the guest
    takes a longer pause: each command uses 0.1 s of the guest's processor."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(pause)


@contextlib.contextmanager
def phase(name):
    """Prints how many seconds a part of a test took."""
    start, used = time.monotonic(), cpu_seconds()
    yield
    print(f"{time.monotonic() - start:6.1f} s, of the processor {cpu_seconds() - used:6.1f} s: {name}", flush=True)


def cpu_seconds():
    """The processor time of this test and of what it has started."""
    used, tick = sum(os.times()[:4]), os.sysconf("SC_CLK_TCK")
    for child in pathlib.Path("/proc/self/task").glob("*/children"):
        for pid in child.read_text().split():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            used += sum(map(int, fields[11:15])) / tick
    return used


def run_on_host(*command):
    """Runs a tool of this machine, such as mkfs."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def copy_sparse(source, target):
    run_on_host("cp", "--sparse=always", "--reflink=auto", str(source), str(target))


def make_image(suite="bookworm", arch="amd64", kernel=None):
    """The folder with disk, kernel and initrd; made if it is missing or out of date."""
    kernel = kernel or f"linux-image-{arch}"
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*as_root, ROOT / "tests/guest/make-image", suite, arch, kernel], check=True)
    return CACHE / f"{suite}-{kernel}"


class Failed(Exception):
    """A command in the guest ended with another exit code than 0."""


class Result:
    """What a command in the guest did."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __repr__(self):
        return f"{' '.join(self.command)}: exit code {self.code}\n{self.out}{self.err}"


class Lines:
    """A socket that carries one JSON object per line, in both directions."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def send(self, message):
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds):
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no response from qemu or its agent")
            self.sock.settimeout(left)
            try:
                chunk = self.sock.recv(1 << 16)
            except socket.timeout:
                continue
            if not chunk:
                raise ConnectionError("qemu has ended")
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        # The agent may answer a new session with a byte that marks its start.
        return json.loads(line.replace(b"\xff", b"") or b"{}")


class Disk:
    """The disk of a guest: `path` is what would survive a power cut now, or the contents when no guest runs."""

    def __init__(self, folder, source, name="disk"):
        self.path = folder / f"{name}.raw"
        self.running = folder / f"{name}.running"
        self.log = folder / f"{name}.log"
        self.node = name
        copy_sparse(source, self.path)

    def blockdev(self):
        """Prepares a boot; the description of the disk for qemu."""
        copy_sparse(self.path, self.running)
        self.log.unlink(missing_ok=True)
        with open(self.log, "wb") as log:
            log.truncate(1 << 36)
        # The machine that runs the test stays up, so its own flushes are left out.
        file = {"driver": "file", "cache": {"direct": False, "no-flush": True}}
        return {
            "driver": "blklogwrites",
            "node-name": self.node,
            "file": {"driver": "raw", "file": {**file, "filename": str(self.running)}},
            "log": {"driver": "raw", "file": {**file, "filename": str(self.log)}},
            "log-append": False,
        }

    def settle(self, chance=None):
        """Brings `path` to the state after qemu has ended. `chance` is None after a shutdown; after a power cut it is
        the share of the unflushed writes that reached the disk, chosen at random."""
        entries = list(self.entries())
        flushes = [number for number, entry in enumerate(entries) if entry[0] & 1]
        last = flushes[-1] if flushes else -1
        lost = kept = 0
        with open(self.path, "r+b") as disk, open(self.log, "rb") as log:
            for number, (flags, start, length, place) in enumerate(entries):
                if not length or flags & 4:
                    continue
                if chance is not None and number > last:
                    if random.random() >= chance:
                        lost += 1
                        continue
                    kept += 1
                log.seek(place)
                disk.seek(start)
                disk.write(log.read(length))
        self.running.unlink()
        self.log.unlink()
        return {"flushes": len(flushes), "unflushed writes lost": lost, "unflushed writes kept": kept}

    def entries(self):
        """The writes in the log: flags, start, length, place in the log. The format is that of dm-log-writes. Its header
        counts the entries up to the last flush; those behind it are read, too, up to the first that is empty."""
        with open(self.log, "rb") as log:
            magic, _, count, sector = struct.unpack("<QQQI", log.read(28))
            assert magic == 0x6A736677736872, "not a log of writes"
            place = sector
            for number in itertools.count():
                log.seek(place)
                start, sectors, flags, _ = struct.unpack("<QQQQ", log.read(32))
                if number >= count and not sectors and not flags:
                    return
                place += sector
                data = 0 if flags & 4 else sectors * sector
                yield flags, start * sector, data, place
                place += data


class Guest:
    """One qemu with its disk in a folder of its own, which is deleted at the end unless the test failed."""

    def __init__(self, image, disk=None, memory=512, payload=None, machine=None):
        RUNS.mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=RUNS))
        self.image, self.memory, self.payload = image, memory, payload
        self.arch = machine or ("aarch64" if "arm64" in image.name else "x86_64")
        self.disk = Disk(self.folder, disk or image / "disk.raw")
        self.sticks = {}
        self.process = self.qmp = self.agent = self.port = None
        self.boots = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None and self.process:
            self.explain()
        self.kill()
        if kind is None or not os.environ.get("CHATTO_GUEST_KEEP"):
            shutil.rmtree(self.folder)
        else:
            print(f"kept: {self.folder}")

    def explain(self):
        """Prints what helps to understand a failed test."""
        try:
            print(self.run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "80", check=False, seconds=30).out)
        except Exception as error:  # The guest may be the reason why the test failed.
            print(f"no journal: {error}")
            print(self.console()[-4000:])

    def console(self):
        """What the kernel and systemd have printed in this boot."""
        return (self.folder / f"console.{self.boots}").read_text(errors="replace")

    # --- power ------------------------------------------------------------------------------------
    def machine(self):
        """The options of the emulated machine."""
        if self.arch == "aarch64":
            return ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"], "ttyAMA0"
        return ["qemu-system-x86_64", "-M", "q35,sata=off,smbus=off,vmport=off", "-cpu", "qemu64"], "ttyS0"

    def boot(self, rtc=None, parameters=""):
        """Starts qemu and waits until systemd has started everything. `rtc` is the time of the hardware clock (UTC),
        such as 2025-01-01T00:00:00."""
        self.start(rtc, parameters)
        self.wait_agent()
        self.wait_up()
        return self

    def start(self, rtc=None, parameters=""):
        """Starts qemu."""
        self.boots += 1
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)))
        command, console = self.machine()
        command = [
            *command,
            *("-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", str(self.memory)),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-rtc", f"base={rtc}" if rtc else "base=utc"),
            *("-serial", f"file:{self.folder}/console.{self.boots}"),
            *("-chardev", f"socket,id=qmp,fd={theirs[0].fileno()}", "-mon", "chardev=qmp,mode=control"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={theirs[1].fileno()}"),
            *("-device", "virtserialport,id=port,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-device", "qemu-xhci,id=usb", "-device", "virtio-rng-pci"),
            *("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:4000"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-blockdev", json.dumps(self.disk.blockdev()), "-device", "virtio-blk-pci,drive=disk,write-cache=on"),
            *("-kernel", str(self.image / "kernel"), "-initrd", str(self.image / "initrd")),
            *("-append", f"console={console} panic=-1 mitigations=off net.ifnames=0 quiet nowatchdog "
                         f"cryptomgr.notests apparmor=0 audit=0 rcupdate.rcu_expedited=1 systemd.show_status=auto {parameters}"),
        ]
        if self.payload:
            command += ["-drive", f"file={self.payload},format=raw,if=none,id=payload,readonly=on",
                        "-device", "virtio-blk-pci,drive=payload"]
        libc = ctypes.CDLL(None)
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[end.fileno() for end in theirs],
            # 1 is PR_SET_PDEATHSIG: qemu ends with the test.
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))
        for end in theirs:
            end.close()
        self.qmp, self.agent = map(Lines, ours)
        self.agent_open = False
        self.qmp.receive(30)
        self.command("qmp_capabilities")
        table = self.command("human-monitor-command", **{"command-line": "info usernet"})
        self.port = int(re.search(r"HOST_FORWARD\S*\s+\d+\s+127\.0\.0\.1\s+(\d+)", table).group(1))

    def wait_agent(self, seconds=BOOT_SECONDS):
        """Waits for the agent in the guest."""
        def is_open():
            if self.process.poll() is not None:
                raise RuntimeError(f"qemu has ended:\n{self.console()[-3000:]}")
            self.command("query-status")
            return self.agent_open
        wait_until(is_open, seconds, "the agent has started")
        number = random.randrange(1 << 30)
        self.agent.send({"execute": "guest-sync", "arguments": {"id": number}})
        while self.agent.receive(60).get("return") != number:
            pass

    def wait_up(self, seconds=BOOT_SECONDS):
        """Waits until systemd has no more jobs of the boot."""
        state = self.run("systemctl", "is-system-running", "--wait", check=False, seconds=seconds).out.strip()
        if state not in ("running", "degraded"):
            raise RuntimeError(f"systemd is {state}")

    def shut_down(self, seconds=180):
        """An orderly shutdown."""
        self.spawn("systemctl", "poweroff", "--no-block")
        self.process.wait(seconds)
        self.closed()
        return self.disk.settle()

    def cut_power(self, chance=0.0):
        """Ends qemu at once. Of the writes after the last flush, `chance` is the share that reached the disk."""
        self.process.kill()
        self.process.wait()
        self.closed()
        return self.disk.settle(chance)

    def kill(self):
        """Ends qemu; the disk is of no more interest."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.closed()

    def closed(self):
        for lines in (self.qmp, self.agent):
            lines.sock.close()
        self.process = None
        self.sticks.clear()

    def command(self, name, **arguments):
        """A command of QMP."""
        self.qmp.send({"execute": name, "arguments": arguments})
        while True:
            message = self.qmp.receive(60)
            if message.get("event") == "VSERPORT_CHANGE":
                self.agent_open = message["data"]["open"]
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise RuntimeError(f"{name}: {message['error']}")

    # --- commands and files -----------------------------------------------------------------------
    def ask(self, name, seconds=60, **arguments):
        """A command of the agent."""
        self.agent.send({"execute": name, "arguments": arguments})
        message = self.agent.receive(seconds)
        if "error" in message:
            raise RuntimeError(f"{name}: {message['error']}")
        return message["return"]

    def spawn(self, *command, stdin=None, env=()):
        """Starts a command in the guest; returns its number for `finished`."""
        more = {"input-data": base64.b64encode(stdin).decode()} if stdin is not None else {}
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/srv", "LC_ALL=C.UTF-8", *env]
        path, *arguments = map(str, command)
        return self.ask("guest-exec", path=path, arg=arguments, env=environment, **{"capture-output": True}, **more)["pid"]

    def finished(self, pid, command=()):
        """The result of a command that `spawn` started, or None while it runs."""
        status = self.ask("guest-exec-status", pid=pid)
        if not status["exited"]:
            return None
        out, err = (base64.b64decode(status.get(name, "")).decode(errors="replace") for name in ("out-data", "err-data"))
        return Result(list(map(str, command)), status.get("exitcode", 128 + status.get("signal", 0)), out, err)

    def run(self, *command, check=True, stdin=None, env=(), seconds=180):
        """Runs a command in the guest to its end."""
        pid = self.spawn(*command, stdin=stdin, env=env)
        result = wait_until(lambda: self.finished(pid, command), seconds, f"the end of {command}")
        if check and result.code != 0:
            raise Failed(repr(result))
        return result

    def shell(self, script, **options):
        """Runs a script of /bin/sh in the guest; returns its output."""
        return self.run("/bin/sh", "-euc", script, **options).out

    def write(self, path, contents, mode="644"):
        """Writes a small file in the guest."""
        contents = contents.encode() if isinstance(contents, str) else contents
        self.run("/bin/sh", "-euc", f"umask 077; cat >'{path}'; chmod {mode} '{path}'", stdin=contents)

    # --- USB --------------------------------------------------------------------------------------
    def plug(self, image, name="stick"):
        """Plugs a USB stick with the contents of the file."""
        file = {"driver": "file", "filename": str(image), "cache": {"direct": False, "no-flush": True}}
        self.command("blockdev-add", driver="raw", file=file, **{"node-name": name})
        # qemu names the serial number; udev makes ID_SERIAL of it.
        self.command("device_add", driver="usb-storage", bus="usb.0", id=f"usb-{name}", drive=name, serial=name,
                     removable=True)
        self.sticks[name] = image

    def pull(self, name="stick"):
        """Pulls a USB stick out, without a word to the guest."""
        self.command("device_del", id=f"usb-{name}")

        def gone():
            try:
                self.command("blockdev-del", **{"node-name": name})
            except RuntimeError:
                return False
            return True
        wait_until(gone, 60, "the stick is out")
        del self.sticks[name]
