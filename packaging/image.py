#!/usr/bin/env python3
"""Makes the container image of one architecture from a finished binary, without a container engine:

    packaging/image.py TARGET [FILE]

TARGET is x86_64-unknown-linux-musl or aarch64-unknown-linux-musl. The binary is out/TARGET/chatto (cross/build.sh), or
the file that CHATTO_PACKAGE_BINARY names. FILE, by default out/chatto-VERSION-ARCH.oci.tar, is an OCI image in one file; it
also has the index of `docker save`, which older versions of Docker need to load it. Its bytes depend on the binary, on
the commit, and on Debian's package ca-certificates on this machine.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

TOP = pathlib.Path(__file__).resolve().parent.parent
# What uname, OCI call the architecture.
ARCH = {"x86_64-unknown-linux-musl": ("x86_64", "amd64"), "aarch64-unknown-linux-musl": ("aarch64", "arm64")}
# The account of the server: numeric in the image, because Kubernetes accepts no name where it forbids root.
ACCOUNT = 10001
# The package's own files: the bundle in /etc/ssl also has what the administrator of this machine trusts.
ROOTS = pathlib.Path("/usr/share/ca-certificates/mozilla")
ROOTS_COPYRIGHT = pathlib.Path("/usr/share/doc/ca-certificates/copyright")

PASSWD = f"root:x:0:0:root:/:/sbin/nologin\nchatto:x:{ACCOUNT}:{ACCOUNT}:Chatto team chat:/data:/sbin/nologin\n"
GROUP = f"root:x:0:\nchatto:x:{ACCOUNT}:\n"
# Container engines put their own in its place.
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


def output(*args):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, cwd=TOP).stdout


def packed(data):
    """gzip without name and time."""
    return gzip.compress(data, compresslevel=9, mtime=0)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def roots():
    """The certificate authorities that Mozilla trusts, for S3 services and NATS clusters with TLS."""
    found = sorted(ROOTS.glob("*.crt"))
    if not found:
        sys.exit(f"error: {ROOTS} has no certificates: apt install ca-certificates")
    return b"".join(path.read_bytes().rstrip() + b"\n" for path in found)


class Tar:
    """A tar file in memory whose bytes depend on what is put in only."""

    def __init__(self, time):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.USTAR_FORMAT)
        self.time = time

    def _add(self, name, kind, mode, owner=0, data=b"", link=""):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, mode, self.time, len(data), link
        entry.uid = entry.gid = owner
        self.tar.addfile(entry, io.BytesIO(data))

    def folder(self, name, mode=0o755, owner=0):
        self._add(name, tarfile.DIRTYPE, mode, owner)

    def file(self, name, data, mode=0o644):
        self._add(name, tarfile.REGTYPE, mode, data=data)

    def link(self, name, target):
        self._add(name, tarfile.SYMTYPE, 0o777, link=target)

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


def root(binary, target, time):
    """The file system, as a tar file."""
    doc = "usr/share/doc/chatto"
    files = {
        "etc/group": GROUP.encode(),
        "etc/hosts": HOSTS.encode(),
        "etc/passwd": PASSWD.encode(),
        "etc/ssl/certs/ca-certificates.crt": roots(),
        "usr/bin/chatto": binary,
        "usr/bin/wget": None,
        f"{doc}/CHANGELOG.md.gz": packed((TOP / "CHANGELOG.md").read_bytes()),
        f"{doc}/THIRD-PARTY-LICENSES.gz": packed(output("packaging/inventory.py", "licences", target)),
        f"{doc}/copyright": (TOP / "packaging/copyright").read_bytes(),
        "usr/share/doc/ca-certificates/copyright": ROOTS_COPYRIGHT.read_bytes(),
        "usr/share/licenses/chatto/LICENSE": (TOP / "LICENSE").read_bytes(),
    }
    tar = Tar(time)
    folders = {str(folder) for name in files for folder in pathlib.PurePath(name).parents} - {"."}
    for name in sorted({*files, *folders, "data", "tmp"}):
        if name == "data":
            tar.folder(name, 0o750, ACCOUNT)
        elif name == "tmp":
            tar.folder(name, 0o1777)
        elif name in folders:
            tar.folder(name)
        elif files[name] is None:
            # The program is a wget for health checks (src/cli/wget.rs).
            tar.link(name, "chatto")
        else:
            tar.file(name, files[name], 0o755 if name == "usr/bin/chatto" else 0o644)
    return tar.bytes()


def labels(version, created):
    commit = os.environ.get("CHATTO_COMMIT") or output("git", "rev-parse", "HEAD").decode().strip()
    return {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.description": "Self-hosted team chat with its store inside",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": commit,
        "org.opencontainers.image.title": "chatto",
        "org.opencontainers.image.vendor": "The Chatto contributors",
        "org.opencontainers.image.version": version,
    }


def config(arch, layer, version, created):
    """What an engine does with the file system by default."""
    return {
        "architecture": arch,
        **({"variant": "v8"} if arch == "arm64" else {}),
        "os": "linux",
        "created": created,
        "config": {
            "User": f"{ACCOUNT}:{ACCOUNT}",
            "ExposedPorts": {"4000/tcp": {}},
            "Env": [
                "PATH=/usr/bin",
                "CHATTO_NATS_EMBEDDED_DATA_DIR=/data",
                "CHATTO_BACKUP_DIRECTORY=/data/backups",
            ],
            "Entrypoint": ["chatto"],
            "Cmd": ["start"],
            "Volumes": {"/data": {}},
            "WorkingDir": "/data",
            "Labels": labels(version, created),
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": created, "created_by": "packaging/image.py"}],
    }


def image(binary, target, version, time):
    """The image in one file."""
    arch = ARCH[target][1]
    created = datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    layer = root(binary, target, time)
    blobs = {}

    def blob(kind, data):
        blobs[digest(data)] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    layer_of = blob("layer.v1.tar+gzip", packed(layer))
    config_of = blob("config.v1+json", canonical(config(arch, layer, version, created)))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_of,
        "layers": [layer_of],
        "annotations": labels(version, created),
    }
    manifest_of = blob("manifest.v1+json", canonical(manifest))
    platform = {"architecture": arch, "os": "linux", **({"variant": "v8"} if arch == "arm64" else {})}
    names = {
        "io.containerd.image.name": f"docker.io/library/chatto:{version}",
        "org.opencontainers.image.ref.name": version,
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**manifest_of, "platform": platform, "annotations": names}],
    }
    path = lambda descriptor: "blobs/" + descriptor["digest"].replace(":", "/")
    docker = [{"Config": path(config_of), "RepoTags": [f"chatto:{version}"], "Layers": [path(layer_of)]}]
    tar = Tar(time)
    tar.folder("blobs")
    tar.folder("blobs/sha256")
    for name, data in sorted(blobs.items()):
        tar.file("blobs/" + name.replace(":", "/"), data)
    tar.file("index.json", canonical(index))
    tar.file("manifest.json", canonical(docker))
    tar.file("oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
    return tar.bytes()


def main(target, name=None):
    binary = pathlib.Path(os.environ.get("CHATTO_PACKAGE_BINARY") or TOP / "out" / target / "chatto")
    if not binary.is_file():
        sys.exit(f"error: {binary} is missing; cross/build.sh {target} makes it")
    version = re.search(r'^version = "(.*)"', (TOP / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    time = int(os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct"))
    name = pathlib.Path(name or TOP / "out" / f"chatto-{version}-{ARCH[target][0]}.oci.tar")
    name.parent.mkdir(exist_ok=True)
    name.write_bytes(image(binary.read_bytes(), target, version, time))
    print(name)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ARCH:
        sys.exit(__doc__)
    main(*sys.argv[1:])
