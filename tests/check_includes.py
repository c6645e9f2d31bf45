#!/usr/bin/env python3
"""Checks that the folders include each other in one direction only, and that nothing but the
transport's client and server knows ZeroMQ. Usage: check_includes.py SOURCE_ROOT"""
import pathlib
import re
import sys

ALLOWED = {
    "kernels": {"kernels"},
    "runtime": {"runtime", "kernels"},
    "policy": {"policy", "runtime", "kernels"},
    "transport": {"transport", "runtime", "kernels"},
    "tools": {"tools", "policy", "transport", "runtime", "kernels"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def problems(root: pathlib.Path):
    for folder, allowed in ALLOWED.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                own, system = match.groups()
                where = f"{path.relative_to(root)}:{number}"
                if own and own.split("/")[0] not in allowed:
                    yield f"{where}: {folder}/ may not include {own}"
                if system in ("zmq.hpp", "zmq.h", "zmq_addon.hpp") and folder != "transport":
                    yield f"{where}: only transport/ may include {system}"


def main() -> int:
    found = list(problems(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "include directions are right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
