#!/usr/bin/env python3
"""Checks what includes what: the folders at the top in one direction only, no circle between
folders of any depth nor between files (a header and its source are one), and nothing but the
transport knows ZeroMQ; and that every test's source is in a build. Usage: check_includes.py SOURCE_ROOT [--graph]
--graph prints the files per folder and the arrows between folders."""
import collections
import pathlib
import re
import sys

ALLOWED = {
    "base": {"base"},
    "kernels": {"kernels", "base"},
    "runtime": {"runtime", "kernels", "base"},
    "policy": {"policy", "runtime", "kernels", "base"},
    "transport": {"transport", "runtime", "kernels", "base"},
    "tools": {"tools", "policy", "transport", "runtime", "kernels", "base"},
    "web": {"web", "policy", "runtime", "kernels", "base"},
    "capi": {"capi", "tools", "policy", "transport", "runtime", "kernels", "base"},
}
# Headers whose plain types their own parts need: to be taken apart.
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def includes(root: pathlib.Path):
    """(file, line number, own header or None, system header or None), paths from the root."""
    for folder in ALLOWED:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if match := INCLUDE.match(line):
                    yield path.relative_to(root).as_posix(), number, *match.groups()


def circle(graph: dict[str, set[str]]):
    """The names along one circle, or nothing."""
    state: dict[str, int] = {}  # 1: on the way, 2: done

    def visit(name, way):
        state[name] = 1
        for to in sorted(graph.get(name, ())):
            if state.get(to) == 1:
                return [*way[way.index(to):], to]
            if to not in state and (found := visit(to, [*way, to])):
                return found
        state[name] = 2
        return None

    for name in sorted(graph):
        if name not in state and (found := visit(name, [name])):
            return found
    return None


def graph_of(found, name):
    graph = collections.defaultdict(set)
    for path, _, own, _ in found:
        if own and name(path) != name(own):
            graph[name(path)].add(name(own))
    return graph


def folder_of(path):
    return path.rsplit("/", 1)[0]


def unit_of(path):
    return path.rsplit(".", 1)[0]


def unbuilt(root: pathlib.Path):
    builds = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("meson.build"))
    for path in sorted((root / "tests").rglob("*_test.cc")):
        if f"'{path.name}'" not in builds:
            yield f"{path.relative_to(root)}: in no meson.build"


def problems(root: pathlib.Path):
    yield from unbuilt(root)
    found = list(includes(root))
    for path, number, own, system in found:
        folder = path.split("/")[0]
        if own and own.split("/")[0] not in ALLOWED[folder]:
            yield f"{path}:{number}: {folder}/ may not include {own}"
        if system in ("zmq.hpp", "zmq.h", "zmq_addon.hpp") and folder != "transport":
            yield f"{path}:{number}: only transport/ may include {system}"
    for what, name in (("folders", folder_of), ("files", unit_of)):
        if way := circle(graph_of(found, name)):
            yield f"{what} include each other in a circle: {' -> '.join(way)}"


def print_graph(root: pathlib.Path):
    files = collections.Counter()
    for folder in ALLOWED:
        for path in (root / folder).rglob("*"):
            if path.suffix in (".h", ".cc"):
                files[folder_of(path.relative_to(root).as_posix())] += 1
    graph = graph_of(includes(root), folder_of)
    for folder in sorted(files):
        print(f"{files[folder]:>3} {folder:<18} -> {', '.join(sorted(graph[folder]))}")


def main() -> int:
    root = pathlib.Path(sys.argv[1])
    if "--graph" in sys.argv:
        print_graph(root)
        return 0
    found = list(problems(root))
    print("\n".join(found) or "include directions are right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
