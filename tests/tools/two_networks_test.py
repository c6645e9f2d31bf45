#!/usr/bin/env python3
"""One binary serves every kind of network: a text edge, an edge with numbers and, where they are built
in, one with images offload to servers started from it, each with its own model, and are refused by
the others'.

Arguments: EDGE SERVER TOOL MODEL OTHER_MODEL [IMAGE_MODEL] [test names]; a text model, one on numbers
and one on images (random_images.py).
"""

import contextlib
import os
import sys

IMAGE_MODEL = os.path.abspath(sys.argv.pop(6)) if sys.argv[6:] and sys.argv[6].endswith(".gguf") else None

from binaries import MODEL, OTHER_MODEL, Server, answers, edge, lines, main, make_texts, records_of, write  # noqa: E402
from random_numbers import make_rows, table  # noqa: E402


def inputs(folder):
    """(model, flags, standard input) of each kind."""
    yield MODEL, (), lines(make_texts(30))
    yield OTHER_MODEL, (), table(make_rows(30))
    if IMAGE_MODEL:
        from random_images import picture, ppm  # it needs NumPy

        files = [write(folder, f"{i}.ppm", ppm(picture(i))) for i in range(30)]
        yield IMAGE_MODEL, ("--input-format", "images"), "".join(name + "\n" for name in files)


def test_each_kind(folder):
    kinds = list(inputs(folder))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server(model=model)) for model, _, _ in kinds]
        for number, (model, layout, stdin) in enumerate(kinds):
            others = servers[:number] + servers[number + 1:]
            whole = answers(records_of("--policy", "final", *layout, stdin=stdin, model=model))
            for policy in (("offload",), ("fixed", "--split", "2", "--alpha", "1")):
                flags = ("--policy", *policy, "--deadline-ms", "60000", *layout)
                records = records_of(*flags, "--server", servers[number].endpoint, stdin=stdin, model=model)
                assert {record["route"] for record in records} == {"offload"}
                assert answers(records) == whole
                for other in others:
                    result = edge(*flags, "--server", other.endpoint, stdin=stdin, model=model)
                    assert {record["route"] for record in result.records} == {"fallback"}
                    assert answers(result.records) == whole
                    assert "model" in result.err, result


if __name__ == "__main__":
    main(globals())
