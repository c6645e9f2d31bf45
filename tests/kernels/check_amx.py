"""Fails unless the library of AMX holds the instructions that its model stands for: where a configuration is loaded
tiles are released, and the loops of sum_tiles() (kernels/simd/amx-inl.h) load the tiles and make the products that are
expected.

Usage: check_amx.py OBJDUMP LIBRARY
"""

import re
import sys

from check_spills import functions, innermost_loops

SUM_TILES = re.compile(r"::sum_tiles<.*?::(\w+)<.*>, .*, (\d)ul?, (\d)ul?>\(")
# Of tiles of A and of W: the first tile of W.
FIRST_RIGHT = {1: 5, 2: 6}
PRODUCT = {"I8Amx": "tdpbssd", "Bf16Amx": "tdpbf16ps"}


def expected(rows, columns):
    """Tiles that are loaded and products (sum, left, right)."""
    rights = [FIRST_RIGHT[rows] + j % (8 - FIRST_RIGHT[rows]) for j in range(columns)]
    lefts = [4 + i for i in range(rows)]
    return {*lefts, *rights}, {(4 // rows * i + j, lefts[i], rights[j]) for j in range(columns) for i in range(rows)}


def found(loop, product):
    loads = {int(re.search(r"%tmm(\d)", rest)[1]) for _, mnemonic, rest in loop if mnemonic == "tileloadd"}
    products = {tuple(map(int, reversed(re.findall(r"%tmm(\d)", rest))))
                for _, mnemonic, rest in loop if mnemonic == product}  # fmt: skip
    return loads, products


def check_loop(name, code):
    arithmetic, *numbers = SUM_TILES.search(name).groups()
    rows, columns = map(int, numbers)
    loops = [found(loop, PRODUCT[arithmetic]) for loop in innermost_loops(code)]
    loops = [loop for loop in loops if loop[1]]
    good = loops != [] and all(loop == expected(rows, columns) for loop in loops)
    print(f"{arithmetic}, {rows} by {columns} tiles: {len(loops)} loops, {'as' if good else 'not as'} expected")
    if not good:
        print(f"  expected {expected(rows, columns)}, found {loops}")
    return good


def main():
    objdump, library = sys.argv[1:]
    good, loops, configured = True, 0, 0
    for name, code in functions(objdump, library):
        mnemonics = [mnemonic for _, mnemonic, _ in code]
        if SUM_TILES.search(name):
            good = check_loop(name, code) and good
            loops += 1
        if "ldtilecfg" in mnemonics:
            configured += 1
            if mnemonics.count("tilerelease") != mnemonics.count("ldtilecfg"):
                print(f"{name}: does not release what it configures")
                good = False
    print(f"{library}: {loops} loops, {configured} functions that configure tiles")
    return 0 if good and loops == 12 and configured == 2 else 1


if __name__ == "__main__":
    sys.exit(main())
