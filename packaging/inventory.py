#!/usr/bin/env python3
"""Lists what the binary of one target contains: crates, Go modules of nats-server, npm packages of the web client.

    packaging/inventory.py licences TARGET   their licences and copyright notices, each text once
    packaging/inventory.py bom TARGET        a CycloneDX 1.5 list (JSON)

Reads the lock files and the sources that the build has fetched; needs cargo, go and src/web/client/node_modules.
The output depends on these only.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
GO_ARCH = {"x86_64-unknown-linux-musl": "amd64", "aarch64-unknown-linux-musl": "arm64"}
TEXTS = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)


def run(args, **options):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def crates(target):
    """Crates that are linked into the program, with name, version, licence, folder and checksum."""
    metadata = json.loads(
        run(["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"], cwd=TOP)
    )
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    found, open_ids = set(), [root]
    while open_ids:
        node = nodes[open_ids.pop()]
        for dependency in node["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            is_macro = any("proc-macro" in one["kind"] for one in packages[dependency["pkg"]]["targets"])
            if is_linked and not is_macro and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                open_ids.append(dependency["pkg"])
    for package in (packages[one] for one in found):
        yield {
            "kind": "cargo",
            "name": package["name"],
            "version": package["version"],
            "licence": (package["license"] or "").replace("/", " OR "),
            "folder": pathlib.Path(package["manifest_path"]).parent,
        }


def go_modules(target):
    """nats-server and the modules that it is built from."""
    env = os.environ | {"GOOS": "linux", "GOARCH": GO_ARCH[target], "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    form = "{{with .Module}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}"
    listed = run(
        ["go", "list", "-deps", "-f", form, "github.com/nats-io/nats-server/v2"], cwd=TOP / "cross/nats-server", env=env
    )
    for line in sorted({line for line in listed.splitlines() if line}):
        name, version, folder = line.split("\t")
        yield {"kind": "golang", "name": name, "version": version, "licence": "", "folder": pathlib.Path(folder)}
    goroot = pathlib.Path(run(["go", "env", "GOROOT"]).strip())
    yield {"kind": "golang", "name": "std", "version": run(["go", "env", "GOVERSION"]).strip(), "licence": "BSD-3-Clause", "folder": goroot}


def npm_packages():
    """Packages whose code is in the web client."""
    client = TOP / "src/web/client"
    lock = json.loads((client / "package-lock.json").read_text())
    for path, package in sorted(lock["packages"].items()):
        if path and not package.get("dev") and not package.get("optional"):
            yield {
                "kind": "npm",
                "name": path.split("node_modules/")[-1],
                "version": package["version"],
                "licence": package.get("license", ""),
                "folder": client / path,
            }


def system():
    """What the compilers add: Rust's standard library and musl."""
    rust = run(["rustc", "--version"]).split()[1]
    sysroot = pathlib.Path(run(["rustc", "--print", "sysroot"]).strip())
    yield {"kind": "generic", "name": "rust-std", "version": rust, "licence": "MIT OR Apache-2.0", "folder": sysroot / "share/doc/rust/licenses"}
    yield {"kind": "generic", "name": "musl", "version": "", "licence": "MIT", "folder": TOP / "packaging/licences"}


def texts(component):
    """The licence files of a component, by name."""
    folder = component["folder"]
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in names:
        if path.is_file() and (TEXTS.match(path.name) or component["name"] in ("rust-std", "musl")):
            yield path.name, path.read_text(errors="replace").replace("\r\n", "\n").strip()


def components(target):
    found = [*crates(target), *go_modules(target), *npm_packages(), *system()]
    return sorted(found, key=lambda one: (one["kind"], one["name"], one["version"]))


def licences(target):
    """Each text once, under the components that have it; a component without any stops the build."""
    by_text, missing = {}, []
    for component in components(target):
        label = f'{component["name"]} {component["version"]} ({component["kind"]})'.replace("  ", " ")
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
    version = f'@{component["version"]}' if component["version"] else ""
    return f'pkg:{kind}/{name.replace("@", "%40", 1) if name.startswith("@") else name}{version}'


def bom(target):
    version = re.search(r'^version = "(.*)"', (TOP / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    listed = []
    for component in components(target):
        one = {"type": "library", "bom-ref": purl(component), "name": component["name"], "purl": purl(component)}
        if component["version"]:
            one["version"] = component["version"]
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
