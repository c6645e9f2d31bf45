"""Fails unless every library given exports exactly one function, its target's, which runs on every CPU.

A library of a target is compiled for a newer CPU than its callers. Any other global or weak symbol
in it (an inline function that was not inlined, a template's instance) could be chosen by the linker
for the callers as well, and would crash on an older CPU. So would that function, which is called before
it is known what the CPU has, if it did more than return an address, and code that runs when a program starts.

Usage: check_symbols.py NM OBJDUMP LIBRARY...
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


def begins_alike_everywhere(objdump, library, function):
    """Whether the function only returns an address, and nothing runs before it is called."""
    def listing(*flags):
        return subprocess.run([objdump, *flags, library], check=True, capture_output=True, text=True).stdout

    found = re.search(rf"<{re.escape(function)}>:\n(.*?)\n(?:\n|$)", listing("-d", "--demangle", "--no-show-raw-insn"), re.DOTALL)
    if found is None:
        print(f"{library}: {function} is not in its disassembly")
        return False
    vectors_or_calls = re.search(r"\b(call|bl|blr|blx)q?\b|[xyz]mm\d|%k[0-7]|\b[vqds]\d+\b", found[1])
    if vectors_or_calls:
        print(f"{library}: {function} does more than return an address:\n{found[1]}")
    at_start = re.search(r"\.(init_array|ctors)\b", listing("-h"))
    if at_start:
        print(f"{library}: code that runs when a program starts ({at_start[0]})")
    return not vectors_or_calls and not at_start


def check(nm, objdump, library):
    name = re.fullmatch(r"libkernels_(\w+)\.a", os.path.basename(library)).group(1)
    expected = [("T", f"splitee::kernels::{name}_target()")]
    actual = exported(nm, library)
    if actual == expected:
        print(f"{library}: one function")
        return begins_alike_everywhere(objdump, library, actual[0][1])
    print(f"{library}: expected {expected}, found:")
    for letter, symbol in actual:
        print(f"  {letter} {symbol}")
    return False


def main():
    nm, objdump, *libraries = sys.argv[1:]
    if not libraries:
        sys.exit("no library given")
    sys.exit(0 if all([check(nm, objdump, library) for library in libraries]) else 1)


if __name__ == "__main__":
    main()
