#!/usr/bin/env python3
"""What programs were linked to must stay: the names and versions of the symbols of libsplitee.so.1 are those of
symbols.txt, which splitee.h and splitee.map agree with, and the fields of its structures lie where layout.txt says.
Nothing else is visible, and it needs no library that was not meant to be needed. Where libabigail is installed
(abigail-tools), abidiff compares a library made of the header's declarations with the one of symbols.txt, too.
Arguments: LIBRARY HEADER MAP COMPILER..."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

LIBRARY, HEADER, MAP, *COMPILER = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
# The C and C++ run times, and what the program's own libraries are (docs/c.md).
NEEDED = re.compile(r"lib(c|m|gcc_s|stdc\+\+|pthread|zmq|utf8proc|fmt|zstd|png16|jpeg|sodium|asan|ubsan)\.so|ld-linux")
MOST_FUNCTIONS = 20


def read(name):
    with open(name, encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def without_comments(text):
    return re.sub(r"/\*.*?\*/|^#.*?$", "", text, flags=re.S | re.M)


def symbols():
    """Of the library: ["splitee_free@@SPLITEE_1.0", ...], and its version nodes apart."""
    found = [line.split() for line in run("nm", "-D", "--defined-only", LIBRARY).splitlines()]
    return sorted(words[-1] for words in found if words[-2] != "A")


def dynamic():
    text = run("readelf", "-dW", LIBRARY)
    return re.search(r"SONAME.*\[(.*)\]", text).group(1), re.findall(r"NEEDED.*\[(.*)\]", text)


def structures(text):
    """{name: fields} of the header."""
    found = re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", without_comments(text), flags=re.S)
    result = {}
    for name, body in found:
        fields = []
        for line in body.split(";"):
            pointer = re.search(r"\(\*(\w+)\)", line)
            names = [pointer.group(1)] if pointer else [re.sub(r".*[\s*]", "", part.strip()) for part in line.split(",")]
            fields += [field for field in names if field]
        result[name] = fields
    return result


def layout(folder):
    """Where a compiler puts the fields: "splitee_record.json 128", and "splitee_record 136", in bytes."""
    lines = []
    for name, fields in structures(read(HEADER)).items():
        lines += [f'  printf("{name}.{field} %zu\\n", offsetof({name}, {field}));' for field in fields]
        lines.append(f'  printf("{name} %zu\\n", sizeof({name}));')
    source = os.path.join(folder, "layout.cc")
    with open(source, "w", encoding="utf-8") as file:
        file.write(f'#include "{HEADER}"\n#include <stdio.h>\nint main() {{\n' + "\n".join(lines) + "\n}\n")
    program = os.path.join(folder, "layout")
    run(*COMPILER, source, "-o", program)
    return run(program).splitlines()


def same(what, found, wanted):
    missing, added = [x for x in wanted if x not in found], [x for x in found if x not in wanted]
    assert not missing and not added, f"{what}: missing {missing}, not expected {added}"


def check_abidiff(folder):
    """Types of parameters and structures, too."""
    if shutil.which("abidiff") is None:
        print("abidiff is not installed (apt-get install abigail-tools); names and layout were compared")
        return
    declarations = re.findall(r"SPLITEE_API (.*?\));", without_comments(read(HEADER)), flags=re.S)
    source = os.path.join(folder, "stub.cc")
    with open(source, "w", encoding="utf-8") as file:
        file.write(f'#include "{HEADER}"\n')
        file.write("".join(f"{line} {{ __builtin_abort(); }}\n" for line in declarations))
    stub = os.path.join(folder, "stub.so")
    run(*COMPILER, "-g", "-shared", "-fPIC", "-Wno-unused-parameter", source, "-o", stub)
    done = subprocess.run(["abidiff", os.path.join(HERE, "splitee.abi"), stub], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def main():
    header = sorted(set(re.findall(r"\b(splitee_\w+)\s*\(", re.sub(r"\(\*\w+\)", "", without_comments(read(HEADER))))))
    mapped = sorted(re.findall(r"^\s+(splitee_\w+);", read(MAP), flags=re.M))
    wanted = read(os.path.join(HERE, "symbols.txt")).splitlines()
    same("symbols of the library", symbols(), wanted)
    same("functions of the header", header, [name.split("@")[0] for name in wanted])
    same("functions of the map", mapped, [name.split("@")[0] for name in wanted])
    assert len(wanted) <= MOST_FUNCTIONS, len(wanted)
    soname, needed = dynamic()
    assert soname == "libsplitee.so.1", soname
    assert not [name for name in needed if not NEEDED.match(name)], needed
    with tempfile.TemporaryDirectory() as folder:
        found = layout(folder)
        assert len(found) > 80, found
        same("layout of the structures", found, read(os.path.join(HERE, "layout.txt")).splitlines())
        check_abidiff(folder)
    print(f"{len(wanted)} functions, {len(found)} places of fields as they were")


main()
