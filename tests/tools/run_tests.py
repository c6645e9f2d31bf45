"""Runs the test_* functions of a program, one after the other. Standard library only."""

import signal
import tempfile


def run_tests(functions, wanted=(), path=str):
    """`functions`: a module's globals(). Each test gets an empty folder of its own, as a `path`. Of all tests,
    where none are `wanted` by name."""
    # The programs leave a signal alone that was ignored when they began, as under nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name, test in list(functions.items()):
        if name.startswith("test_") and (not wanted or name in wanted):
            print(name, flush=True)
            with tempfile.TemporaryDirectory(prefix="splitee_test_") as folder:
                test(path(folder))
