"""Records of earlier runs of the demo, kept in the build folder, so that a policy is not measured again over what it has
already been measured on: same programs, model, stream, flags and machine. Needs the standard library only."""

import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import platform

MOST_FILES = 20  # four demos


def hash_file(path, into):
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            into.update(part)


class Kept:
    """`folder` holds one file a run, called by the hash of all that its records depend on."""

    def __init__(self, folder, files, words, fresh=False):
        """`files` and `words`: what every run of this demo depends on. fresh: keeps, but gives nothing back."""
        self.folder, self.fresh = folder, fresh
        self.common = hashlib.sha256()
        for path in files:
            hash_file(path, self.common)
        self.common.update(json.dumps([*words, platform.node(), platform.machine()]).encode())

    def path(self, flags):
        key = self.common.copy()
        key.update(json.dumps(flags).encode())
        return self.folder / f"{key.hexdigest()[:32]}.jsonl"

    def read(self, flags, count):
        """(records, when they were measured), or None."""
        path = self.path(flags)
        try:
            with open(path, encoding="utf-8") as file:
                records = [json.loads(line) for line in file]
            when = datetime.datetime.fromtimestamp(path.stat().st_mtime)
        except (OSError, ValueError):
            return None
        return (records, when) if not self.fresh and len(records) == count else None

    def write(self, flags, records):
        """A folder that cannot be written, or a full disk, means that nothing is kept."""
        path = self.path(flags)
        part = path.with_suffix(f".{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
            part.replace(path)
            oldest = sorted(self.folder.glob("*.jsonl"), key=lambda found: found.stat().st_mtime)[:-MOST_FILES]
            for found in oldest:
                found.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()


def words_of_pictures(paths):
    """Stands for what pictures hold, which may be more than can be read at once."""
    found = (pathlib.Path(path).stat() for path in sorted(set(paths)))
    return [[status.st_size, status.st_mtime_ns] for status in found]
