#!/usr/bin/env python3
"""Writes a man page or a shell's completion of a program, from what `PROGRAM --describe` prints
(tools/common/description.h). The build runs it; there is no second list of flags.

usage: make_pages.py man|bash|zsh DESCRIPTION.json OUTPUT

The date of a man page is $SOURCE_DATE_EPOCH, else today.
"""

import json
import os
import re
import sys
import textwrap
import time

SEE_ALSO = ("splitee", "splitee-edge", "splitee-server")
FILES, FOLDERS = ("FILE", "MODEL", "TRACE", "DATA.tsv", "A", "B"), ("DIR",)
WIDTH = 68  # escapes make lines longer


def split_type(text):
    """("WORD", ["a", "b"]) of "WORD:{a,b}"; bounds are for the man page alone."""
    name, _, rest = text.partition(":")
    words = re.fullmatch(r"\{(.*)\}", rest)
    return name, words.group(1).split(",") if words else [], "" if words else rest


def options_of(part):
    return part["options"] + part["positionals"]


def takes_files(kind):
    return kind in FILES or kind.endswith("FILE") or "|" in kind


# --- man ------------------------------------------------------------------------------------


def roff(text):
    """Text as roff takes it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti").replace('"', "\\(dq")
    return re.sub(r"(?m)^\.", r"\\&.", text)


def wrapped(text):
    """A line with hanging indent where it is a list's or a table's."""
    indent = re.match(r" *(\S+  +)?", text).end() if text.startswith(" ") else 0
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * min(indent, 28), break_on_hyphens=False,
                         break_long_words=False, replace_whitespace=False) or [""]  # fmt: skip


def prose(text):
    """Paragraphs are filled; indented lines stay as they are."""
    out, plain = [], []

    def flush():
        if plain:
            out.extend(roff(line) for line in textwrap.wrap(" ".join(plain), WIDTH, break_on_hyphens=False))
            plain.clear()

    in_table = False
    for line in text.strip("\n").split("\n"):
        if line.startswith(" "):
            flush()
            if not in_table:
                out += [".PP", ".nf"]
                in_table = True
            out.extend(roff(part) for part in wrapped(line))
            continue
        if in_table:
            out += [".fi", ".PP"]
            in_table = False
        begins = re.match(r"(Input|Output|SI[A-Z]+|Exit status|Keys|Messages|With|\"|[A-Z]\S* .*:)", line)
        if (not line or begins) and plain and (not line or plain[-1].endswith((".", ":"))):
            flush()
            out.append(".PP")
        if line:
            plain.append(line)
    flush()
    if in_table:
        out.append(".fi")
    while out and out[0] == ".PP":
        out.pop(0)
    return [line for i, line in enumerate(out) if line != ".PP" or (i + 1 < len(out) and out[i + 1] != ".PP")]


def man_option(option):
    kind, words, bounds = split_type(option["type"])
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in option["names"])
    yield ".TP"
    yield names + (f" \\fI{roff(kind)}\\fR" if kind and option["names"][0].startswith("-") else "")
    text = option["help"]
    if option["required"]:
        text += " (required)"
    if option["repeatable"] and "repeated" not in text:
        text += "; may be repeated"
    if bounds:
        text += f" {bounds}"
    unsaid = [word for word in words if not re.search(rf"(^|\W){re.escape(word)}(\W|$)", text)]
    if unsaid:
        text += "; one of " + ", ".join(words)
    if option["default"]:
        text += f" (default: {option['default']})"
    text = text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
    yield from (roff(line) for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False))


def man_part(part, heading):
    if part["positionals"]:
        yield f"{heading} Arguments" if heading == ".SS" else f"{heading} ARGUMENTS"
        for option in part["positionals"]:
            yield from man_option(option)
    yield f"{heading} Options" if heading == ".SS" else f"{heading} OPTIONS"
    for option in part["options"]:
        yield from man_option(option)


def synopsis(part, program):
    words = [f"\\fB{roff(program)}\\fR"]
    for option in part["options"]:
        if option["required"]:
            kind = split_type(option["type"])[0]
            words.append(f"\\fB{roff(option['names'][0])}\\fR \\fI{roff(kind)}\\fR")
    words += [f"\\fI{roff(option['names'][0])}\\fR" for option in part["positionals"]]
    return " ".join(words + ["[\\fIoption\\fR]..."])


def man(about):
    name = about["name"]
    version = about["version"].split("\n")[0].split()[1]
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    first = about["description"].rstrip(".")
    out = [f'.\\" Made by tools/scripts/make_pages.py of `{name} --describe`.',
           f'.TH {name.upper()} 1 {date} "splitee {version}" "User Commands"',
           ".SH NAME", roff(name) + " \\-",
           *(roff(line) for line in textwrap.wrap(first[:1].lower() + first[1:], WIDTH)),
           ".SH SYNOPSIS"]  # fmt: skip
    if about["commands"]:
        for command in about["commands"]:
            out += [synopsis(command, f"{name} {command['name']}"), ".br"]
        out.pop()
    else:
        out.append(synopsis(about, name))
    out += [".SH DESCRIPTION", *prose(about["footer"])]
    out += man_part(about, ".SH")
    for command in about["commands"]:
        out += [f".SH COMMAND {roff(command['name'].upper())}", *prose(command["description"])]
        if command["footer"].strip():
            out += [".PP", *prose(command["footer"])]
        out += man_part(command, ".SS")
    out += [".SH ENVIRONMENT", ".TP", "\\fBSPLITEE_TARGET\\fR",
            "Kernel target to force, where no \\fB\\-\\-target\\fR is given.",
            ".SH SEE ALSO",
            ",\n".join(f".BR {roff(other)} (1)" for other in SEE_ALSO if other != name)]  # fmt: skip
    return "\n".join(out) + "\n"


# --- completion -------------------------------------------------------------------------------


def identifier(name):
    return "_" + name.replace("-", "_")


def bash_cases(part, command):
    """`command:flag) reply` for the flags that take a value."""
    for option in part["options"]:
        kind, words, _ = split_type(option["type"])
        if not kind:
            continue
        keys = "|".join(f"{command}:{name}" for name in option["names"])
        if words:
            yield f"    {keys}) {identifier('splitee-words')} {' '.join(words)}; return ;;"
        elif takes_files(kind):
            yield f"    {keys}) {identifier('splitee-files')} -f; return ;;"
        elif kind in FOLDERS:
            yield f"    {keys}) {identifier('splitee-files')} -d; return ;;"
        else:
            yield f"    {keys}) return ;;"


def bash_flags(part):
    return " ".join(name for option in part["options"] for name in option["names"] if name.startswith("--"))


def bash(about):
    name, commands = about["name"], about["commands"]
    names = " ".join(command["name"] for command in commands)
    words, files = identifier("splitee-words"), identifier("splitee-files")
    out = [f"# bash completion of {name}; made by tools/scripts/make_pages.py of `{name} --describe`.",
           f"{words}() {{ mapfile -t COMPREPLY < <(compgen -W \"$*\" -- \"$word\"); }}",
           f"{files}() {{ compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$word\"); }}",
           f"{identifier(name)}() {{",
           "  local word=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]} command= other",
           "  if [[ $word == = ]]; then word=; elif [[ $flag == = ]]; then flag=${COMP_WORDS[COMP_CWORD - 2]}; fi"]  # fmt: skip
    if commands:
        out += ['  for other in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
                f"    [[ \" {names} \" == *\" $other \"* ]] && command=$other && break",
                "  done"]  # fmt: skip
    out += ['  case "$command:$flag" in', *bash_cases(about, "")]
    for command in commands:
        out += bash_cases(command, command["name"])
    out += ["  esac", '  case "$command" in']
    for command in commands:
        out.append(f"    {command['name']}) other='{bash_flags(command)}' ;;")
    out += [f"    *) other='{bash_flags(about)} {names}' ;;".replace(" '", "'"), "  esac",
            f"  if [[ $word == -* || -z $command && -n '{names}' ]]; then {words} $other; else {files} -f; fi",
            "}", f"complete -F {identifier(name)} {name}"]  # fmt: skip
    return "\n".join(out) + "\n"


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_escaped(text):
    return re.sub(r"([\\\[\]:])", r"\\\1", text)


def zsh_value(option):
    kind, words, _ = split_type(option["type"])
    if not kind:
        return ""
    if words:
        action = "(" + " ".join(words) + ")"
    else:
        action = "_files" if takes_files(kind) else "_files -/" if kind in FOLDERS else " "
    return f":{zsh_escaped(kind)}:{action}"


def zsh_arguments(part):
    for option in part["options"]:
        for name in option["names"]:
            spec = ("*" if option["repeatable"] else "") + name
            yield quoted(f"{spec}[{zsh_escaped(option['help'])}]{zsh_value(option)}")
    for option in part["positionals"]:
        star = "*" if option["repeatable"] else ""
        yield quoted(f"{star}:{zsh_escaped(option['names'][0])}:_files")


def zsh_call(part, indent):
    lines = [" " * indent + "_arguments -s"]
    lines += [" " * (indent + 2) + argument for argument in zsh_arguments(part)]
    return " \\\n".join(lines)


def zsh(about):
    name, commands = about["name"], about["commands"]
    out = [f"#compdef {name}", f"# Made by tools/scripts/make_pages.py of `{name} --describe`."]
    if not commands:
        return "\n".join(out + [zsh_call(about, 0)]) + "\n"
    rows = " ".join(quoted(f"{command['name']}:{command['description']}") for command in commands)
    out += ["local context state line", "typeset -A opt_args", f"local -a commands=({rows})",
            "_arguments -C \\", "".join(f"  {argument} \\\n" for argument in zsh_arguments(about)) +
            "  '1: :->command' '*:: :->rest'",
            "case $state in", "  command) _describe command commands ;;", "  rest)", "    case $words[1] in"]  # fmt: skip
    for command in commands:
        out += [f"      {command['name']})", zsh_call(command, 8), "        ;;"]
    return "\n".join(out + ["    esac", "    ;;", "esac"]) + "\n"


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("man", "bash", "zsh"):
        print(__doc__)
        return 0 if sys.argv[1:] in (["--help"], ["-h"]) else 2
    kind, source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        about = json.load(file)
    with open(target, "w", encoding="utf-8") as file:
        file.write({"man": man, "bash": bash, "zsh": zsh}[kind](about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
