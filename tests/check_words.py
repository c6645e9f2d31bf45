#!/usr/bin/env python3
"""Checks what the C++ of policy/, transport/, tools/ and capi/ speaks of: of no kind of network's own words
(bert, token, hidden), which are the network's business; and no policy by its name outside policy/,
whose registry says as data what the others need to know. Usage: check_words.py SOURCE_ROOT"""
import pathlib
import re
import sys

FOLDERS = ("policy", "transport", "tools", "capi")
WORDS = re.compile(r"\b([Bb]ert|BERT|[Tt]okens?|[Tt]okeni[sz]\w*|[Hh]idden)\b"
                   r"|[a-z](Bert|Tokens?|Hidden)(?![a-z])|\b(bert|tokens?|hidden)_")  # fmt: skip
# The only places where a network's words may stand.
EXCEPTIONS = {
    # What the units and bytes of a text are, and what version 1 called them.
    "transport/wire/wire.h": {"tokens", "token", "hidden", "bert"},
    # The flag --max-tokens, of texts.
    "tools/edge/edge_options.cc": {"tokens"},
    "capi/splitee.h": {"tokens"},
    # The command that shows what becomes of a text; built with networks of texts alone.
    "tools/splitee/tokenize.cc": {"token", "tokens", "tokenize", "tokenizer", "bert"},
}
# A client's secret is called so, too (RFC 6750).
BEARER_TOKENS = "tools/http/"
# Values of other flags that a policy happens to be called.
NAME_EXCEPTIONS = {("tools/splitee/load.cc", "fixed")}  # --arrivals
COMPARED = re.compile(r'(?:[=!]=\s*|(?:starts_with|ends_with|compare|find_policy|make_policy)\()"([^"]*)"|"([^"]*)"\s*[=!]=')


def policy_names(root):
    text = (root / "policy/learners/registry.cc").read_text(encoding="utf-8")
    rows = text[text.index("kPolicies[] = {"):]
    return set(re.findall(r'\{\{\.name = "([a-z0-9-]+)"', rows))


def without_comments(line):
    return re.sub(r"//.*", "", line)


def problems(root):
    names = policy_names(root)
    assert len(names) > 10, names
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            name = path.relative_to(root).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                for match in WORDS.finditer(line):
                    word = next(group for group in match.groups() if group).lower()
                    if word.strip("_").endswith("token") and name.startswith(BEARER_TOKENS):
                        continue
                    if word not in EXCEPTIONS.get(name, ()):
                        yield f"{name}:{number}: '{match.group()}' is a word of one kind of network"
                if folder == "policy":
                    continue
                for text in ("".join(found) for found in COMPARED.findall(without_comments(line))):
                    if text in names and (name, text) not in NAME_EXCEPTIONS:
                        yield f"{name}:{number}: policy \"{text}\" by its name"


def main():
    found = list(problems(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "no network and no policy is spoken of where it is not known")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
