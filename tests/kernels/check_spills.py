"""Fails where the hot loop of a full tile (kernels/simd/tile-inl.h), in any arithmetic of the libraries
given, keeps a vector on the stack, as GCC does where it schedules before it gives out registers. On x86, whose
products take an operand from memory, an operand that is read from there is no loss; a sum that goes there is.

Usage: check_spills.py OBJDUMP LIBRARY...
"""

import re
import subprocess
import sys

TILE = re.compile(r"::tile<.*?::(\w+)<.*?(\d+)ul?, (\d+)ul?, \d+ul?>, false, (\d+)ul?, (\d+)ul?>\(")
INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(?:\{vex\} )?(\S+)\s*(.*)$", re.MULTILINE)
BRANCH = re.compile(r"(?:j\w+|b|b\.\w+|b(?:eq|ne|cs|cc|mi|pl|hi|ls|ge|lt|gt|le)(?:\.[nw])?|cbn?z|tbn?z)$")
MULTIPLY_ADD = re.compile(r"vfma|fmla|vpadal|sadalp|sdot|smmla|bfmmla|vpdpbusd|vdpbf16ps|v?pmaddubsw|mulps")
ON_STACK = re.compile(r"(?:[qdv]\d|\{d).*\[(?:sp|x29|fp|r7)\b|%[xyz]mm\d+,(?:.*\(%rsp\)|-.*\(%rbp\))$")


def functions(objdump, library):
    """(name, [(address, mnemonic, operands)]) of each."""
    listing = subprocess.run([objdump, "-d", "-C", "--no-show-raw-insn", library],
                             check=True, capture_output=True, text=True).stdout  # fmt: skip
    for part in listing.split("\n\n"):
        head = re.match(r"\n*[0-9a-f]+ <(.*)>:\n", part)
        if head:
            yield head[1], [(int(a, 16), m, rest) for a, m, rest in INSTRUCTION.findall(part)]


def innermost_loops(code):
    """Instructions from where a branch goes back to up to that branch, without loops in them."""
    places = {address: i for i, (address, _, _) in enumerate(code)}
    loops = []
    for end, (address, mnemonic, operands) in enumerate(code):
        target = re.search(r"([0-9a-f]+) <", operands)
        begin = places.get(int(target[1], 16)) if target and BRANCH.match(mnemonic) else None
        if begin is not None and begin <= end:
            loops.append((begin, end))
    inner = [code[b:e + 1] for b, e in loops if not any(b <= c and f < e for c, f in loops)]  # fmt: skip
    # What is rarely run stands behind the function's end, from where a branch goes back as well.
    return [loop for loop in inner if all(m != "ret" for _, m, _ in loop)]


def check(name, code):
    arithmetic, *numbers = TILE.search(name).groups()
    rows, vectors = map(int, numbers[2:])
    what = f"{arithmetic}, {rows} rows of {vectors} vectors"
    steps = rows * vectors
    loops = [loop for loop in innermost_loops(code)
             if sum(bool(MULTIPLY_ADD.match(m)) for _, m, _ in loop) >= steps]  # fmt: skip
    if not loops:
        print(f"{what}: no loop of {steps} or more products was found")
        return False
    spills = [line for loop in loops for line in loop if ON_STACK.search(line[2])]
    for address, mnemonic, operands in spills[:5]:
        print(f"{what}: {address:x}: {mnemonic} {operands}")
    print(f"{what}: {len(spills)} vectors to or from the stack")
    return not spills


def main():
    objdump, *libraries = sys.argv[1:]
    good = True
    for library in libraries:
        found = 0
        for name, code in functions(objdump, library):
            tile = TILE.search(name)
            if tile and tile[2] == tile[4] and tile[3] == tile[5]:
                good = check(name, code) and good
                found += 1
        print(f"{library}: {found} tiles")
        good = good and found >= 3  # f32, bf16, i8
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
