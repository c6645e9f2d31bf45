#!/usr/bin/env python3
"""splitee tokenize: the tokens of a model's tokenizer, worked out by hand."""

import json

from binaries import MODEL, TOOL, main, run, write


def tokenize(*flags, stdin="", status=0):
    return run(TOOL, "tokenize", "--model", MODEL, *flags, stdin=stdin, status=status)


def test_forms(folder):
    text = "ba be\n\nBA, \x1bq\n"
    rows = [json.loads(line) for line in tokenize("--json", stdin=text).out.splitlines()]
    assert [row["id"] for row in rows] == [0, 1, 2]
    assert rows[1]["tokens"] == ["[CLS]", "[SEP]"] and rows[1]["types"] == [0, 0]
    assert rows[0]["tokens"][0] == "[CLS]" and rows[0]["tokens"][-1] == "[SEP]"
    assert rows[2]["tokens"][1] == rows[0]["tokens"][1]  # lower case
    spelled = tokenize(stdin=text).out.splitlines()
    assert spelled == [" ".join(row["tokens"]) for row in rows]
    numbers = tokenize("--ids", stdin=text).out.splitlines()
    assert numbers == [" ".join(map(str, row["ids"])) for row in rows]
    pair = json.loads(tokenize("--json", "--input-format", "tsv", stdin="text\ttext2\nba\tbe\n").out)
    ids = rows[0]["ids"]
    assert pair["ids"][0] == ids[0] and pair["types"].count(1) >= 2
    assert [i for i, kind in zip(pair["ids"], pair["types"]) if kind == 1][-1] == ids[-1]
    path = write(folder, "in.txt", text)
    assert tokenize("--input", path).out.splitlines() == spelled


def test_limits_and_errors(folder):
    long = "ba " * 500
    assert len(json.loads(tokenize("--json", stdin=long).out)["ids"]) == 48
    assert len(json.loads(tokenize("--json", "--max-tokens", "5", stdin=long).out)["ids"]) == 5
    assert len(json.loads(tokenize("--json", "--max-tokens", "200", stdin=long).out)["ids"]) == 200
    tokenize("--max-tokens", "2", status=None).expect(2, "--max-tokens")
    tokenize("--input", "/no/such", status=None).expect(1, "/no/such")
    run(TOOL, "tokenize", "--model", write(folder, "m", "x"), status=None).expect(1, "m: ")
    run(TOOL, "tokenize", status=None).expect(2, "--model")


if __name__ == "__main__":
    main(globals())
