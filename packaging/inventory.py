#!/usr/bin/env python3
"""Lists what the binary of one target contains: crates, Go modules of nats-server, npm packages of the web client.

    packaging/inventory.py licences TARGET   their licences and copyright notices, each text once
    packaging/inventory.py bom TARGET        a CycloneDX 1.5 list (JSON)

Reads the lock files, the sources that the build has fetched and the web client that it has built; needs cargo, go and
src/web/client/node_modules.
The output depends on these only.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.parse

TOP = pathlib.Path(__file__).resolve().parent.parent
GO_ARCH = {"x86_64-unknown-linux-musl": "amd64", "aarch64-unknown-linux-musl": "arm64"}
# Words of a licence's text by its name.
KNOWN = {
    "Apache-2.0": "Apache License",
    "BSD-3-Clause": "Neither the name",
    "MIT": "Permission is hereby granted, free of charge",
}
TEXTS = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)


def run(args, **options):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def crates(target):
    """Crates that are linked into the program, with name, version, licence, folder and checksum."""
    # The features, and with them the crates, are those of a build without tests.
    tree = ["cargo", "tree", "--locked", f"--target={target}", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}"]
    linked = {tuple(line.split()[:2]) for line in run(tree, cwd=TOP).splitlines()}
    metadata = json.loads(
        run(["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"], cwd=TOP)
    )
    lock = tomllib.loads((TOP / "Cargo.lock").read_text())["package"]
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock}
    for package in metadata["packages"]:
        name, version = package["name"], package["version"]
        if (name, f"v{version}") in linked and package["source"]:
            yield {
                "kind": "cargo",
                "name": name,
                "version": version,
                "licence": (package["license"] or "").replace("/", " OR "),
                "folder": pathlib.Path(package["manifest_path"]).parent,
                "hash": ("SHA-256", checksums[name, version]),
            }


def go_modules(target):
    """nats-server and the modules that it is built from. Their licences are known by the text."""
    env = os.environ | {"GOOS": "linux", "GOARCH": GO_ARCH[target], "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    form = "{{with .Module}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}"
    listed = run(
        ["go", "list", "-deps", "-f", form, "github.com/nats-io/nats-server/v2"], cwd=TOP / "cross/nats-server", env=env
    )
    for line in sorted({line for line in listed.splitlines() if line}):
        name, version, folder = line.split("\t")
        module = {"kind": "golang", "name": name, "version": version, "licence": "", "folder": pathlib.Path(folder)}
        both = "\n".join(text for _, text in texts(module))
        yield module | {"licence": " AND ".join(licence for licence, words in KNOWN.items() if words in both)}
    goroot = pathlib.Path(run(["go", "env", "GOROOT"]).strip())
    version = run(["go", "env", "GOVERSION"]).strip().removeprefix("go")
    # The name under which lists of vulnerabilities have it.
    yield {"kind": "golang", "name": "stdlib", "version": version, "licence": "BSD-3-Clause", "folder": goroot}


def npm_packages():
    """Packages whose code is in the built web client: the bundler lists them."""
    client, bundled = TOP / "src/web/client", set()
    for path in sorted((TOP / "src/web/dist").glob("*/licenses.txt")):
        bundled |= set(re.findall(r"^## (\S+) - (\S+) ", path.read_text(), re.MULTILINE))
    if not bundled:
        sys.exit("error: src/web/dist has no web client; .ci/client builds it")
    lock = json.loads((client / "package-lock.json").read_text())
    for path, package in sorted(lock["packages"].items()):
        name = path.split("node_modules/")[-1]
        if (name, package.get("version")) in bundled:
            bundled.remove((name, package["version"]))
            yield {
                "kind": "npm",
                "name": name,
                "version": package["version"],
                "licence": package.get("license", ""),
                "folder": client / path,
                "hash": ("SHA-512", base64.b64decode(package["integrity"].removeprefix("sha512-")).hex()),
            }
    if bundled:
        sys.exit(f"error: the web client has packages that its lock file has not: {bundled}")


def system(target):
    """What the compilers add: Rust's standard library and musl."""
    rust = run(["rustc", "--version"]).split()[1]
    sysroot = pathlib.Path(run(["rustc", "--print", "sysroot"]).strip())
    libc = sysroot / f"lib/rustlib/{target}/lib/self-contained/libc.a"
    musl = re.search(rb"\0(1\.[0-9]+\.[0-9]+)\0", libc.read_bytes()).group(1).decode()
    yield {"kind": "generic", "name": "rust-std", "version": rust, "licence": "MIT OR Apache-2.0", "folder": sysroot / "share/doc/rust/licenses"}
    yield {"kind": "generic", "name": "musl", "version": musl, "licence": "MIT", "folder": TOP / "packaging/licences"}


def texts(component):
    """The licence files of a component, by name."""
    folder = component["folder"]
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in names:
        if path.is_file() and (TEXTS.match(path.name) or component["name"] in ("rust-std", "musl")):
            yield path.name, path.read_text(errors="replace").replace("\r\n", "\n").strip()


def components(target):
    found = [*crates(target), *go_modules(target), *npm_packages(), *system(target)]
    return sorted(found, key=lambda one: (one["kind"], one["name"], one["version"]))


def licences(target):
    """Each text once, under the components that have it; a component without any stops the build."""
    by_text, missing = {}, []
    for component in components(target):
        label = f'{component["name"]} {component["version"]} ({component["kind"]})'
        found = list(texts(component))
        if not found and component["licence"]:
            # Some packages name their licence and have no text of it: others here have the same.
            found = [("", f'{component["licence"]}, as the package says without a text')]
        if not found:
            missing.append(label)
        for _, text in found:
            by_text.setdefault(text, []).append(label)
    if missing:
        sys.exit(f"error: no licence text of {', '.join(missing)}")
    rule = "=" * 80
    print("Chatto contains the following software. Chatto itself is under the Apache Licence 2.0.")
    for text, labels in by_text.items():
        print(f"\n{rule}\n" + "\n".join(dict.fromkeys(labels)) + f"\n{rule}\n\n{text}")


def purl(component):
    kind, name = component["kind"], component["name"]
    # A plus sign in a version is part of it, not a space.
    version = urllib.parse.quote(component["version"], safe="")
    return f'pkg:{kind}/{name.replace("@", "%40", 1) if name.startswith("@") else name}@{version}'


def bom(target):
    version = re.search(r'^version = "(.*)"', (TOP / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    listed = []
    for component in components(target):
        one = {"type": "library", "bom-ref": purl(component), "name": component["name"], "purl": purl(component)}
        one["version"] = component["version"]
        if "hash" in component:
            one["hashes"] = [dict(zip(("alg", "content"), component["hash"]))]
        if component["licence"]:
            one["licenses"] = [{"expression": component["licence"]}]
        listed.append(one)
    top = {"type": "application", "bom-ref": "chatto", "name": "chatto", "version": version, "licenses": [{"expression": "Apache-2.0"}]}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": top, "properties": [{"name": "target", "value": target}]},
        "components": listed,
    }
    name = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["serialNumber"] = f"urn:uuid:{name[:8]}-{name[8:12]}-5{name[13:16]}-8{name[17:20]}-{name[20:32]}"
    print(json.dumps(document, indent=1, sort_keys=True))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("licences", "bom") or sys.argv[2] not in GO_ARCH:
        sys.exit(__doc__)
    {"licences": licences, "bom": bom}[sys.argv[1]](sys.argv[2])
