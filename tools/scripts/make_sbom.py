#!/usr/bin/env python3
"""Writes the bill of materials of a build, as SPDX 2.3 JSON: the programs, the libraries that they are linked
with (read from the programs themselves), the headers that were compiled in, and the models. The build runs it.

usage: make_sbom.py OUTPUT VERSION ROOT --compiled NAME=VERSION... --programs FILE... --models FILE...

The time in it is $SOURCE_DATE_EPOCH, else now. A library that it does not know stands there without its
licence, which a test finds: then it needs a row in KNOWN, and one in LICENSES.md.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time

# What may be linked or compiled in: soname without its version, or the name that the build uses -> name, licence
# (SPDX), origin.
KNOWN = {
    "libfmt": ("fmt", "MIT", "https://github.com/fmtlib/fmt"),
    "libzmq": ("libzmq", "LGPL-3.0-or-later WITH LGPL-3.0-linking-exception", "https://github.com/zeromq/libzmq"),
    "libutf8proc": ("utf8proc", "MIT AND Unicode-DFS-2015", "https://github.com/JuliaStrings/utf8proc"),
    "libzstd": ("zstd", "BSD-3-Clause", "https://github.com/facebook/zstd"),
    "libmicrohttpd": ("libmicrohttpd", "LGPL-2.1-or-later", "https://www.gnu.org/software/libmicrohttpd/"),
    "libpng16": ("libpng", "libpng-2.0", "http://www.libpng.org/pub/png/libpng.html"),
    "libjpeg": ("libjpeg-turbo", "IJG AND BSD-3-Clause AND Zlib", "https://libjpeg-turbo.org/"),
    "libstdc++": ("libstdc++", "GPL-3.0-or-later WITH GCC-exception-3.1", "https://gcc.gnu.org/"),
    "libgcc_s": ("libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", "https://gcc.gnu.org/"),
    "libc": ("glibc", "LGPL-2.1-or-later", "https://www.gnu.org/software/libc/"),
    "libm": ("glibc", "LGPL-2.1-or-later", "https://www.gnu.org/software/libc/"),
    "ld-linux": ("glibc", "LGPL-2.1-or-later", "https://www.gnu.org/software/libc/"),
    "libpthread": ("glibc", "LGPL-2.1-or-later", "https://www.gnu.org/software/libc/"),
    "xsimd": ("xsimd", "BSD-3-Clause AND BSL-1.0", "https://github.com/xtensor-stack/xsimd"),
    "cli11": ("CLI11", "BSD-3-Clause", "https://github.com/CLIUtils/CLI11"),
    "cppzmq": ("cppzmq", "MIT", "https://github.com/zeromq/cppzmq"),
    "nlohmann-json": ("nlohmann-json", "MIT", "https://github.com/nlohmann/json"),
}
MODEL_LICENCE = "MIT"


def identifier(name):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def package(name, version, licence, origin, purpose):
    entry = {"SPDXID": identifier(name), "name": name, "downloadLocation": origin, "filesAnalyzed": False,
             "licenseConcluded": licence, "licenseDeclared": licence, "copyrightText": "NOASSERTION",
             "primaryPackagePurpose": purpose}  # fmt: skip
    if version:
        entry["versionInfo"] = version
    return entry


def needed(program):
    done = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"})  # fmt: skip
    return re.findall(r"\(NEEDED\).*\[(.*)\]", done.stdout)


def component_of(soname):
    stem = re.sub(r"[-.](so|linux).*", "", soname) if not soname.startswith("ld-linux") else "ld-linux"
    if stem not in KNOWN:
        print(f"make_sbom.py: {soname} is in none of its rows: its licence is not named", file=sys.stderr)
    return KNOWN.get(stem, (stem, "NOASSERTION", "NOASSERTION"))


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit_of(root):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "commit.sh")
    return subprocess.run([script, root], capture_output=True, text=True, check=False).stdout.strip()


class Document:
    def __init__(self, version):
        self.version = version
        self.packages = {}
        self.relations = []

    def add(self, *arguments):
        entry = package(*arguments)
        return self.packages.setdefault(entry["SPDXID"], entry)

    def relate(self, one, kind, other):
        relation = {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
        if relation not in self.relations:
            self.relations.append(relation)

    def program(self, root, path, compiled):
        name = os.path.basename(path)
        entry = self.add(name, self.version, "MIT", "NOASSERTION", "APPLICATION")
        self.relate(root, "CONTAINS", entry["SPDXID"])
        for soname in needed(path):
            other, licence, origin = component_of(soname)
            library = self.add(other, compiled.get(other.lower()), licence, origin, "LIBRARY")
            self.relate(entry["SPDXID"], "DYNAMIC_LINK", library["SPDXID"])

    def headers(self, root, key, version):
        name, licence, origin = KNOWN[key]
        entry = self.add(name, version, licence, origin, "LIBRARY")
        self.relate(root, "STATIC_LINK", entry["SPDXID"])

    def model(self, root, path):
        entry = self.add(os.path.basename(path), self.version, MODEL_LICENCE, "NOASSERTION", "OTHER")
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256(path)}]
        self.relate(root, "CONTAINS", entry["SPDXID"])

    def json(self, commit):
        created = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
        name = f"splitee-{self.version}" + (f"-{commit}" if commit else "")
        return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
                "documentNamespace": f"https://spdx.org/spdxdocs/{name}",
                "creationInfo": {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", created),
                                 "creators": ["Tool: make_sbom.py"]},
                "packages": list(self.packages.values()), "relationships": self.relations}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("version")
    parser.add_argument("root")
    for name in ("compiled", "programs", "models"):
        parser.add_argument(f"--{name}", nargs="*", default=[])
    arguments = parser.parse_args()
    compiled = dict(item.split("=", 1) for item in arguments.compiled)
    document = Document(arguments.version)
    root = document.add("splitee-source", arguments.version, "MIT", "NOASSERTION", "APPLICATION")["SPDXID"]
    document.relate("SPDXRef-DOCUMENT", "DESCRIBES", root)
    for program in arguments.programs:
        document.program(f"{root}", program, compiled)
    for key in ("xsimd", "cli11", "cppzmq", "nlohmann-json"):
        document.headers(root, key, compiled.get(key))
    for model in arguments.models:
        document.model(root, model)
    with open(arguments.output, "w", encoding="utf-8") as file:
        json.dump(document.json(commit_of(arguments.root)), file, indent=1)
        file.write("\n")


main()
