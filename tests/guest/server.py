"""chatto as a package in a guest: its installation, its API from outside, a burst of posts that remembers what was
acknowledged."""

import contextlib
import fcntl
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

import guest

CGROUP = "/sys/fs/cgroup/system.slice/chatto.service"
PASSPHRASE = "seven brown horses run"


def build_package(name="chatto.deb"):
    """The .deb of the unoptimised binary, without compression. CHATTO_GUEST_PACKAGE names a finished .deb."""
    given = os.environ.get("CHATTO_GUEST_PACKAGE")
    if given:
        return pathlib.Path(given)
    target = "x86_64-unknown-linux-musl"
    folder = guest.CACHE / "package"
    folder.mkdir(parents=True, exist_ok=True)
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", guest.ROOT / "target")) / target / "debug" / "chatto"
    binary = pathlib.Path(os.environ.get("CHATTO_GUEST_BINARY", built))
    # The symbols would take half of the package.
    guest.run_on_host("strip", "-o", str(folder / "chatto"), str(binary))
    environment = {**os.environ, "CHATTO_PACKAGE_BINARY": str(folder / "chatto"), "CHATTO_PACKAGE_DIR": str(folder),
                   "CHATTO_PACKAGE_COMPRESSION": "none",
                   # The same package for every commit that changes no code.
                   "SOURCE_DATE_EPOCH": "1767225600"}
    done = subprocess.run([guest.ROOT / "packaging/build.sh", target, "deb"], env=environment, check=True,
                          capture_output=True, text=True)
    path = folder / name
    os.replace(done.stdout.strip(), path)
    return path


def newer_package(package):
    """The same package with a higher version."""
    with tempfile.TemporaryDirectory(dir=guest.CACHE) as work:
        guest.run_on_host("dpkg-deb", "-R", str(package), f"{work}/tree")
        control = pathlib.Path(f"{work}/tree/DEBIAN/control")
        lines = [line + "+1" if line.startswith("Version: ") else line for line in control.read_text().splitlines()]
        control.write_text("\n".join(lines) + "\n")
        path = package.with_name("newer.deb")
        guest.run_on_host("dpkg-deb", "--root-owner-group", "-Znone", "-b", f"{work}/tree", str(path))
        return path


def payload(*files):
    """A file system with the files, which the guest has as /dev/vdb."""
    path = guest.CACHE / "payload.raw"
    with tempfile.TemporaryDirectory(dir=guest.CACHE) as work:
        for file in files:
            shutil.copy(file, work)
        size = sum(os.path.getsize(file) for file in files) + (16 << 20)
        path.unlink(missing_ok=True)
        guest.run_on_host("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", work, str(path), f"{size >> 10}k")
    return path


def installed():
    """A disk with the installed package, an owner and a passphrase for backups, shut down in order; made once for each
    package and image. Returns the image, the disk, the payload, and what `Server.resume` needs."""
    with open(guest.CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return install_once()


def install_once():
    image, package = guest.make_image(), build_package()
    stamp = hashlib.sha256(package.read_bytes() + (image / "stamp").read_bytes()).hexdigest()[:16]
    disk, payload_file, state = (guest.CACHE / f"installed-{stamp}.{kind}" for kind in ("raw", "payload", "json"))
    if not state.exists():
        for old in guest.CACHE.glob("installed*"):
            if old.stat().st_mtime < time.time() - 86400:
                old.unlink()
        os.replace(payload(package, newer_package(package)), payload_file)
        with guest.Guest(image, payload=payload_file) as vm:
            vm.boot()
            chatto = Server(vm)
            chatto.install()
            chatto.wait_ready()
            chatto.set_up()
            chatto.post("the first message")
            chatto.passphrase()
            vm.shut_down()
            guest.copy_sparse(vm.disk.path, disk)
        state.write_text(json.dumps({"token": chatto.token, "room": chatto.room}))
    return image, disk, payload_file, json.loads(state.read_text())


@contextlib.contextmanager
def running(rtc=None, memory_mb=512, parameters=""):
    """A guest whose service is ready, started from the disk of `installed`."""
    image, disk, payload_file, state = installed()
    with guest.Guest(image, disk=disk, memory=memory_mb, payload=payload_file) as vm:
        vm.boot(rtc, parameters)
        chatto = Server(vm)
        chatto.resume(state)
        chatto.wait_ready()
        yield vm, chatto


class Refused(Exception):
    """The server responded with an error."""


class Server:
    """The service in a guest, and its API on the forwarded port."""

    def __init__(self, vm):
        self.vm, self.token, self.room = vm, None, None

    # --- the service ------------------------------------------------------------------------------
    def install(self, package="chatto.deb", seconds=300):
        """Installs a package of the payload, as an administrator does."""
        self.vm.shell("mountpoint -q /mnt/payload || mount -o ro /dev/vdb /mnt/payload")
        return self.vm.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "--allow-downgrades",
                           "-o", "Dpkg::Options::=--force-confold", f"/mnt/payload/{package}",
                           env=["DEBIAN_FRONTEND=noninteractive"], seconds=seconds)

    def install_quickly(self, package="chatto.deb", seconds=300):
        """Installs it with dpkg alone, which saves apt's part of the time."""
        self.vm.shell("mountpoint -q /mnt/payload || mount -o ro /dev/vdb /mnt/payload")
        return self.vm.run("dpkg", "-i", f"/mnt/payload/{package}", env=["DEBIAN_FRONTEND=noninteractive"], seconds=seconds)

    def show(self, name, unit="chatto.service"):
        """A property of a unit."""
        return self.vm.run("systemctl", "show", "-p", name, "--value", unit).out.strip()

    def journal(self, unit="chatto"):
        """What a unit has logged in this boot."""
        return self.vm.run("journalctl", "-b", "-u", unit, "--no-pager", "-o", "cat").out

    def is_ready(self):
        """Whether /readyz says so."""
        try:
            return self.request("GET", "/readyz", seconds=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self, seconds=180):
        """Waits until the service accepts calls."""
        guest.wait_until(self.is_ready, seconds, "chatto is ready")

    # --- the API ----------------------------------------------------------------------------------
    def request(self, method, path, body=None, seconds=60, headers=None):
        """One request; returns status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.vm.port, timeout=seconds)
        try:
            sent = {"Content-Type": "application/json", **(headers or {})}
            if self.token:
                sent["Authorization"] = f"Bearer {self.token}"
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def call(self, path, message, **options):
        """A call with JSON in both directions."""
        status, body = self.request("POST", path, json.dumps(message), **options)
        if status != 200:
            raise Refused(f"{path}: {status} {body[:500]!r}")
        return json.loads(body)

    def set_up(self):
        """Creates the first account with the setup link, and joins the room `general`."""
        link = self.vm.run("chatto", "setup-link").out.strip()
        self.token = self.call("/auth/setup", {"token": link.split("#")[-1], "login": "ada", "displayName": "Ada",
                                               "password": "correct horse battery"}, seconds=120)["token"]
        self.join()

    def resume(self, state):
        """Takes over the session of `installed`."""
        self.token, self.room = state["token"], state["room"]

    def log_in(self):
        """A new session, after a restore for example."""
        self.token = None
        self.token = self.call("/auth/login", {"identifier": "ada", "password": "correct horse battery"},
                               seconds=120)["token"]
        self.join()

    def join(self):
        rooms = self.call("/api/connect/chatto.api.v1.RoomDirectoryService/ListRooms", {})["rooms"]
        self.room = next(entry["room"]["id"] for entry in rooms if entry["room"]["name"] == "general")
        self.call("/api/connect/chatto.api.v1.RoomService/JoinRoom", {"roomId": self.room})

    def post(self, text, seconds=60):
        """Posts a message; returning is the acknowledgement."""
        return self.call("/api/connect/chatto.api.v1.MessageService/CreateMessage",
                         {"roomId": self.room, "body": text}, seconds=seconds)

    def texts(self):
        """All texts of the room; a message that cannot be read has none."""
        return list(bodies(self.events()))

    def events(self):
        """All that has happened in the room."""
        found, cursor = [], {}
        while True:
            page = self.call("/api/connect/chatto.api.v1.RoomService/GetRoomEvents",
                             {"roomId": self.room, "limit": 100, **cursor})["page"]
            found += page["events"]
            if not page.get("hasOlder"):
                return found
            cursor = {"before": page["startCursor"]}

    def passphrase(self):
        """Creates the passphrase of the backups, as the documentation says."""
        self.vm.write("/etc/chatto/backup-passphrase", PASSPHRASE + "\n", mode="600")


def bodies(value):
    """All texts of messages in a response."""
    if isinstance(value, dict):
        if isinstance(value.get("body"), str):
            yield value["body"]
        for part in value.values():
            yield from bodies(part)
    elif isinstance(value, list):
        for part in value:
            yield from bodies(part)


class Burst:
    """Posts from several threads until it is stopped; `acknowledged` has what the server has confirmed."""

    def __init__(self, server, name, threads=4):
        self.server, self.name = server, name
        self.acknowledged, self.counter = [], itertools.count()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def work(self):
        while not self.ended.is_set():
            text = f"{self.name}-{next(self.counter)}-"
            try:
                self.server.post(text, seconds=20)
            except (OSError, http.client.HTTPException, Refused):
                continue
            self.acknowledged.append(text)

    def wait(self, count, seconds=120):
        """Waits until so many posts have been acknowledged."""
        guest.wait_until(lambda: len(self.acknowledged) >= count, seconds, f"{count} acknowledged posts")

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def processes(vm):
    """The process IDs of chatto and of its nats-server."""
    parent = vm.run("systemctl", "show", "-p", "MainPID", "--value", "chatto.service").out.strip()
    child = vm.shell(f"cat /proc/{parent}/task/*/children").split()[0]
    return parent, child


def memory(vm):
    """The memory of both processes in MB: RssAnon + RssShmem of each, and what the cgroup counts."""
    used = {}
    for name, pid in zip(("chatto", "nats-server"), processes(vm)):
        status = dict(line.split(":", 1) for line in vm.run("cat", f"/proc/{pid}/status").out.splitlines())
        shared, own = (int(status[key].split()[0]) / 1024 for key in ("RssShmem", "RssAnon"))
        used[name], used[f"{name} shmem"] = own + shared, shared
    used["cgroup"] = int(vm.run("cat", f"{CGROUP}/memory.current").out) / (1 << 20)
    used["cgroup shmem"] = int(vm.shell(f"sed -n 's/^shmem //p' {CGROUP}/memory.stat")) / (1 << 20)
    return {name: round(size, 1) for name, size in used.items()}
