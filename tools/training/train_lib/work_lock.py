"""One process at a time works in a folder: a lock (flock) on a file in it, which ends with the process,
however that ends. Forked helpers do not keep it."""

import errno
import fcntl
import os

from .data import DataError

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # of file systems that know none
_held: dict[str, int] = {}  # path: descriptor


def _still_named(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def hold(path, who):
    """Locks the file `path`, which is made where it is not there, with its folder, until this process ends. DataError
    where another process has it; nothing is done where this one has it already."""
    path = os.path.realpath(path)
    if path in _held and _still_named(_held[path], path):
        return
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataError(f"{path}: another {who} is at work in this folder, and keeps it locked; wait "
                            "for it, or name another --work") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
        if _still_named(descriptor, path):
            break
        os.close(descriptor)  # removed, with its folder, by who had it before
    if path in _held:
        os.close(_held[path])
    _held[path] = descriptor


def _let_go():
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
