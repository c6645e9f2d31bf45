#!/usr/bin/env python3
"""The bill of materials of the build: SPDX 2.3 by its structure, every library that the programs are linked with
in it, and every component in LICENSES.md under the same licence. Arguments: SBOM SOURCE_ROOT PROGRAM..."""

import hashlib
import json
import os
import re
import subprocess
import sys

SBOM, ROOT, *PROGRAMS = sys.argv[1:]
LICENCE = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
PURPOSES = {"APPLICATION", "LIBRARY", "OTHER"}
RELATIONS = {"DESCRIBES", "CONTAINS", "DYNAMIC_LINK", "STATIC_LINK"}


def check_structure(document):
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT" and document["name"]
    assert re.fullmatch(r"https?://[^#\s]+", document["documentNamespace"])
    info = document["creationInfo"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info["created"]), info
    assert info["creators"] and all(re.match(r"(Tool|Person|Organization): \S", who) for who in info["creators"])
    identifiers = [package["SPDXID"] for package in document["packages"]]
    assert len(set(identifiers)) == len(identifiers) > 10, identifiers
    for package in document["packages"]:
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", package["SPDXID"]), package
        assert package["name"] and package["filesAnalyzed"] is False, package
        assert package["downloadLocation"] == "NOASSERTION" or "://" in package["downloadLocation"], package
        assert package["primaryPackagePurpose"] in PURPOSES and package["copyrightText"], package
        for field in ("licenseConcluded", "licenseDeclared"):
            assert LICENCE.fullmatch(package[field]), package
    known = {*identifiers, "SPDXRef-DOCUMENT"}
    for relation in document["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= known, relation
        assert relation["relationshipType"] in RELATIONS, relation
    reached = {relation["relatedSpdxElement"] for relation in document["relationships"]}
    assert reached == set(identifiers), reached ^ set(identifiers)


def linked(document, program):
    return {relation["relatedSpdxElement"] for relation in document["relationships"]
            if relation["spdxElementId"] == f"SPDXRef-{program}" and relation["relationshipType"] == "DYNAMIC_LINK"}  # fmt: skip


def check_programs(document):
    for path in PROGRAMS:
        done = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True,
                              env={**os.environ, "LC_ALL": "C"})  # fmt: skip
        sonames = re.findall(r"\(NEEDED\).*\[(.*?)\]", done.stdout)
        stems = {re.sub(r"^lib|\.so.*", "", soname).lower() for soname in sonames} - {"c", "m", "gcc_s", "pthread"}
        names = {entry.removeprefix("SPDXRef-").removeprefix("lib").lower() for entry in linked(document, os.path.basename(path))}
        stems = {stem.replace("++", "--") for stem in stems if not stem.startswith("ld-linux")}
        missing = [stem for stem in stems if not any(name.startswith(stem.rstrip("0123456789")) for name in names)]
        assert not missing, (path, missing)
        assert "glibc" in names or "c" in names, (path, names)


def check_models(document):
    models = [package for package in document["packages"] if package["name"].endswith(".gguf")]
    assert models
    for model in models:
        with open(os.path.join(ROOT, "models", model["name"]), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        assert model["checksums"] == [{"algorithm": "SHA256", "checksumValue": digest}], model


def check_licences(document):
    with open(os.path.join(ROOT, "LICENSES.md"), encoding="utf-8") as file:
        rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", file.read(), re.MULTILINE)
    known = {name: licence for names, licence in rows for name in names.split(", ")}
    for package in document["packages"]:
        assert known.get(package["name"]) == package["licenseDeclared"], (package, known.get(package["name"]))
    # All that lies in models/ and may be shipped has a row, too.
    for name in os.listdir(os.path.join(ROOT, "models")):
        assert not name.endswith(".gguf") or name in known, f"{name} has no row in LICENSES.md"


def main():
    with open(SBOM, encoding="utf-8") as file:
        document = json.load(file)
    check_structure(document)
    check_programs(document)
    check_models(document)
    check_licences(document)
    print(f"  {len(document['packages'])} components")


main()
