#!/usr/bin/env python3
"""The Debian packages as users have them: built here and in a fresh clone elsewhere with equal bytes, without errors for
lintian, and, in a bare Debian 12 of its own (debootstrap), installed, run, upgraded and removed. For another architecture the bare Debian
runs under qemu (binfmt_misc must know it, as the package qemu-user-static sees to).

Skipped (77), with what is missing, where not root or without debootstrap and lintian. Needs a Debian mirror.

usage: packages_test.py SOURCE_ROOT ARCH [--once] [--keep FOLDER]
--once: builds once only, with ccache where that is. --keep: works in FOLDER, and uses a bare Debian that is there.
"""

import argparse
import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

MIRROR = "http://deb.debian.org/debian"
TEXTS = "a warm and funny film\ndull, loud and far too long\n"
PORT = 5599


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def missing(arch):
    needs = ["debootstrap", "lintian", "dpkg-deb"]
    if arch != run("dpkg", "--print-architecture").strip() and not os.path.exists("/proc/sys/fs/binfmt_misc/qemu-aarch64"):
        return "binfmt_misc, mounted, with qemu-aarch64 in it (Debian: qemu-user-static)"
    lacking = [name for name in needs if shutil.which(name) is None]
    if lacking:
        return ", ".join(lacking)
    return None if os.geteuid() == 0 else "root, for debootstrap and chroot"


def clone(root, folder):
    """A checkout of the same commit in `folder`, with what was changed since, if anything."""
    run("git", "clone", "-q", "--no-hardlinks", root, folder)
    changes = subprocess.run(["git", "-C", root, "diff", "--binary", "HEAD"], capture_output=True, check=True).stdout
    if changes:
        subprocess.run(["git", "-C", folder, "apply", "--index", "-"], input=changes, check=True)
    return folder


def build(root, arch, folder, **environment):
    run(os.path.join(root, "tools/package"), arch, "--output", folder, env={**os.environ, **environment})
    packages = sorted(glob.glob(os.path.join(folder, "*.deb")))
    assert packages, "nothing was built"
    return packages


def digests(packages):
    result = {}
    for path in packages:
        with open(path, "rb") as file:
            result[os.path.basename(path)] = hashlib.sha256(file.read()).hexdigest()
    return result


def check_contents(packages, arch):
    names = {os.path.basename(path).split("_")[0] for path in packages}
    assert names >= {"splitee", "splitee-server", "splitee-models"}, names
    for path in packages:
        files = run("dpkg-deb", "--contents", path)
        name = os.path.basename(path)
        assert name.endswith((f"_{arch}.deb", "_all.deb")), name
        if name.startswith("splitee_"):
            for wanted in ("usr/bin/splitee-edge", "man1/splitee.1.gz", "man1/splitee-edge.1.gz",
                           "bash-completion/completions/splitee-edge", "zsh/vendor-completions/_splitee"):  # fmt: skip
                assert wanted in files, f"{name}: no {wanted}"
        if name.startswith("splitee-server_"):
            assert "system/splitee-server.service" in files and "sysusers.d/splitee-server.conf" in files


def next_version(packages, folder):
    """The same packages, one version later."""
    os.makedirs(folder)
    result = []
    for path in packages:
        tree = tempfile.mkdtemp(dir=folder)
        run("dpkg-deb", "-R", path, tree)
        control = os.path.join(tree, "DEBIAN/control")
        with open(control, encoding="utf-8") as file:
            text = re.sub(r"(?m)^(Version: .*)$", r"\1.1", file.read())
        text = re.sub(r"(lib)?splitee(\S*) \(= ([^)]*)\)", r"\1splitee\2 (= \3.1)", text)
        with open(control, "w", encoding="utf-8") as file:
            file.write(text)
        target = os.path.join(folder, os.path.basename(path).replace("_", "_next_", 1))
        run("dpkg-deb", "-b", "-Znone", tree, target)
        shutil.rmtree(tree)
        result.append(target)
    return result


class Debian:
    """A bare Debian 12 in a folder."""

    def __init__(self, folder, arch):
        self.root = os.path.join(folder, f"debian-{arch}")
        if not os.path.exists(os.path.join(self.root, "etc/debian_version")):
            run("debootstrap", "--variant=minbase", f"--arch={arch}", "bookworm", self.root, MIRROR)
        os.makedirs(os.path.join(self.root, "packages"), exist_ok=True)
        shutil.copy("/etc/resolv.conf", os.path.join(self.root, "etc/resolv.conf"))

    def __enter__(self):
        run("mount", "--bind", "/proc", os.path.join(self.root, "proc"))
        run("mount", "--bind", "/dev", os.path.join(self.root, "dev"))
        return self

    def __exit__(self, *_):
        for name in ("dev", "proc"):
            run("umount", os.path.join(self.root, name))

    def command(self, *words):
        return ["chroot", self.root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *words]  # fmt: skip

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def path(self, name):
        return os.path.join(self.root, name.lstrip("/"))

    def install(self, packages):
        for path in packages:
            shutil.copy(path, self.path("packages"))
        self.run("apt-get", "install", "-q", "-y", "--no-install-recommends",
                 *("/packages/" + os.path.basename(path) for path in packages))  # fmt: skip

    def version(self, package):
        return self.run("dpkg-query", "-W", "-f=${Version}", package)


def unit_command(debian):
    """What systemd would start: the unit's ExecStart with its own environment."""
    path = next(debian.path(name) for name in ("/lib/systemd/system/splitee-server.service",
                                               "/usr/lib/systemd/system/splitee-server.service")
                if os.path.exists(debian.path(name)))  # fmt: skip
    with open(path, encoding="utf-8") as file:
        unit = file.read()
    values = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    values["SPLITEE_FLAGS"] += f"--bind tcp://127.0.0.1:{PORT}"
    line = re.sub(r"\$\{?(\w+)\}?", lambda match: values[match.group(1)], line)
    return line.split()


@contextlib.contextmanager
def server(debian):
    as_user = ["setpriv", "--reuid=splitee-server", "--regid=splitee-server", "--clear-groups"]
    process = subprocess.Popen(debian.command(*as_user, *unit_command(debian)), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("listening on "), "the server did not start"
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0, "the server did not end well"


def check_http(debian):
    """An edge that serves HTTP, by a library that no program names to the loader."""
    command = ["splitee-edge", "--model", "/usr/share/splitee/default.gguf", "--http", "127.0.0.1:0"]
    with subprocess.Popen(debian.command(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://"), line
            with urllib.request.urlopen(line.split()[-1] + "/v2/health/ready", timeout=60) as reply:
                assert reply.status == 200, reply.status
        finally:
            process.terminate()


def check_programs(debian):
    """A server as its unit starts it, an edge that sends it everything, and one that serves HTTP."""
    model = "/usr/share/splitee/default.gguf"
    with server(debian):
        edge = ["splitee-edge", "--model", model, "--server", f"tcp://127.0.0.1:{PORT}", "--require-server",
                "--connect-ms", "60000", "--deadline-ms", "60000", "--policy", "offload"]  # fmt: skip
        records = [json.loads(line) for line in debian.run(*edge, input=TEXTS).splitlines()]
    assert [record["route"] for record in records] == ["offload"] * 2, records
    assert [record["label"] for record in records] == ["positive", "negative"], records
    check_http(debian)
    for program in ("splitee", "splitee-edge", "splitee-server"):
        assert debian.run(program, "--version").startswith(program + " "), program
    assert "layers" in debian.run("splitee", "inspect", model)
    debian.run("bash", "-n", "/usr/share/bash-completion/completions/splitee-edge")


def check_library(debian, packages):
    names = {os.path.basename(path).split("_")[0] for path in packages}
    if "python3-splitee" in names:
        assert debian.run("python3", "-c", "import splitee; print(splitee.__name__)").strip() == "splitee"
    if "libsplitee1" in names:
        assert "libsplitee.so.1" in debian.run("ldconfig", "-p")


def check_life(debian, packages, later):
    debian.run("apt-get", "update", "-q")
    debian.install(packages)
    check_programs(debian)
    check_library(debian, packages)
    # Files of the administrator's stay, whatever comes.
    with open(debian.path("/etc/splitee/server.env"), "w", encoding="utf-8") as file:
        file.write("SPLITEE_FLAGS=--threads 1\n")
    before = debian.version("splitee-server")
    debian.install(later)
    assert debian.version("splitee-server") == before + ".1"
    check_programs(debian)
    assert os.path.exists(debian.path("/etc/splitee/server.env"))
    names = [os.path.basename(path).split("_")[0] for path in packages]
    debian.run("apt-get", "purge", "-q", "-y", *names)
    for name in ("/usr/bin/splitee", "/usr/bin/splitee-server", "/usr/share/splitee", "/usr/share/man/man1/splitee.1.gz"):
        assert not os.path.exists(debian.path(name)), f"{name} is left behind"
    os.remove(debian.path("/etc/splitee/server.env"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("arch")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    if lacking := missing(arguments.arch):
        print(f"skipped: needs {lacking}")
        return 77
    folder = arguments.keep or tempfile.mkdtemp(prefix="splitee_packages_")
    os.makedirs(folder, exist_ok=True)
    work = tempfile.mkdtemp(dir=folder)
    began = time.monotonic()
    in_git = os.path.exists(os.path.join(arguments.root, ".git"))

    def told(what):
        print(f"  {what} ({time.monotonic() - began:.0f} s)", flush=True)

    try:
        packages = build(arguments.root, arguments.arch, os.path.join(work, "first"))
        told("built: " + ", ".join(map(os.path.basename, packages)))
        if not arguments.once:
            root = clone(arguments.root, os.path.join(work, "another place", "clone")) if in_git else arguments.root
            again = build(root, arguments.arch, os.path.join(work, "second"), CCACHE_DISABLE="1")
            assert digests(packages) == digests(again), (digests(packages), digests(again))
            told(f"built again, {'in a fresh clone, ' if in_git else ''}without ccache: equal")
        check_contents(packages, arguments.arch)
        run("lintian", "--fail-on", "error", "--no-cfg", *packages)
        told("lintian")
        later = next_version(packages, os.path.join(work, "later"))
        with Debian(folder, arguments.arch) as debian:
            told("a bare Debian")
            check_life(debian, packages, later)
            told("installed, run, upgraded, removed")
    finally:
        shutil.rmtree(work if arguments.keep else folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
