"""Fails unless every library given exports exactly one function, its target's.

A library of a target is compiled for a newer CPU than its callers. Any other global or weak symbol
in it (an inline function that was not inlined, a template's instance) could be chosen by the linker
for the callers as well, and would crash on an older CPU.

Usage: check_symbols.py NM LIBRARY...
"""

import os
import re
import subprocess
import sys


def exported(nm, library):
    """Defined symbols that other files can see, demangled, with their letter."""
    listing = subprocess.run(
        [nm, "--defined-only", "--extern-only", "--demangle", library],
        check=True, capture_output=True, text=True).stdout
    return re.findall(r"^[0-9a-f]* ([A-Za-z]) (.+)$", listing, re.MULTILINE)


def check(nm, library):
    name = re.fullmatch(r"libkernels_(\w+)\.a", os.path.basename(library)).group(1)
    expected = [("T", f"splitee::kernels::{name}_target()")]
    actual = exported(nm, library)
    if actual == expected:
        print(f"{library}: one function")
        return True
    print(f"{library}: expected {expected}, found:")
    for letter, symbol in actual:
        print(f"  {letter} {symbol}")
    return False


def main():
    nm, libraries = sys.argv[1], sys.argv[2:]
    if not libraries:
        sys.exit("no library given")
    sys.exit(0 if all([check(nm, library) for library in libraries]) else 1)


if __name__ == "__main__":
    main()
