"""Finds a Python that has the modules a script needs: the one that runs it, or else Debian's, which
another one often comes before on the PATH. Standard library only.

  from interpreter import need
  need("numpy")            before `import numpy`
"""

import importlib.util
import os
import subprocess
import sys

DEBIANS = "/usr/bin/python3"
AGAIN = "SPLITEE_INTERPRETER"  # set in the environment of a script that was started again
PACKAGES = {"sklearn": "python3-sklearn"}  # where it is not python3-MODULE


def has_modules(python, modules):
    code = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in {modules!r}))"
    try:
        return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def need(*modules):
    """Returns where this interpreter has the modules; else starts the script again with Debian's, or
    ends it with what is missing. A question for help is answered without them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if AGAIN not in os.environ and has_modules(DEBIANS, modules):
        os.environ[AGAIN] = sys.executable
        arguments = getattr(sys, "orig_argv", [sys.executable, *sys.argv])
        sys.stdout.flush()
        os.execv(DEBIANS, [DEBIANS, *arguments[1:]])
    script = os.path.basename(sys.argv[0])
    if {"-h", "--help"} & set(sys.argv[1:]):
        caller = sys._getframe(1).f_globals  # an entry in tools/ says less than the program behind it
        print((caller["__doc__"] or "").strip() + "\n")
    packages = " ".join(PACKAGES.get(name, f"python3-{name}") for name in missing)
    sys.exit(f"{script}: {sys.executable} has no {' and no '.join(missing)}, and neither has {DEBIANS}: "
             f"apt-get install {packages}")
