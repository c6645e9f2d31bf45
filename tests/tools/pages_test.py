#!/usr/bin/env python3
"""Man pages and completions against what --help says: every flag, command and word is in each of them; bash
completes with it; formatters and shells take them. What is not installed (man, mandoc, zsh) is left out and
said so. Arguments: FOLDER OF THE PAGES PROGRAM..."""

import os
import re
import shutil
import subprocess
import sys

PAGES, *PROGRAMS = (os.path.abspath(path) for path in sys.argv[1:])


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (command, done)
    return done.stdout


def page(name):
    with open(os.path.join(PAGES, name), encoding="utf-8") as file:
        return file.read()


def flags_of(help_text):
    """{flag: words that it takes} as --help lists them."""
    rows = re.findall(r"^  (?:-\w,)?(--[a-z0-9-]+)(?: \w+:\{([^}]*)\})?", help_text, re.MULTILINE)
    return {flag: words.split(",") if words else [] for flag, words in rows}


def commands_of(help_text):
    _, _, rest = help_text.partition("Subcommands:\n")
    return re.findall(r"^  ([a-z]+) ", rest.partition("\n\n")[0], re.MULTILINE)


def complete(name, *words):
    """What bash offers behind `words`, the last of which is being typed."""
    script = f"""source "$1"; shift; COMP_WORDS=({name} "$@"); COMP_CWORD=$#
{"_" + name.replace("-", "_")} && printf '%s\\n' "${{COMPREPLY[@]}}" """
    return set(run("bash", "-c", script, "-", os.path.join(PAGES, name + ".bash"), *words).split("\n")) - {""}


def check_text(name, command, flags):
    manual = page(name + ".1").replace("\\-", "-")
    if command:
        manual = manual.partition(f".SH COMMAND {command.upper()}\n")[2].partition("\n.SH")[0]
    assert manual, f"{name}.1 has no command {command}"
    zsh = page("_" + name)
    if command:
        zsh = re.search(rf"^      {command}\)\n(.*?)^        ;;", zsh, re.MULTILINE | re.DOTALL).group(1)
    for flag, words in flags.items():
        where = f"{name} {command} {flag}"
        assert f"\\fB{flag}\\fR" in manual, f"{where} is not in the man page"
        assert re.search(rf"'\*?{flag}\[", zsh), f"{where} is not in zsh's completion"
        for word in words:
            assert word in manual and word in zsh, f"{where}: {word} is not told"


def check_bash(name, command, flags):
    before = [command] if command else []
    offered = complete(name, *before, "--")
    assert offered == set(flags), (name, command, offered ^ set(flags))
    for flag, words in flags.items():
        if words:
            assert complete(name, *before, flag, "") == set(words), (name, flag)
            assert complete(name, *before, flag, "=", words[0]) >= {words[0]}, (name, flag)


def check_program(program):
    name = os.path.basename(program)
    help_text = run(program, "--help")
    parts = {"": help_text} | {command: run(program, command, "--help") for command in commands_of(help_text)}
    for command, text in parts.items():
        flags = flags_of(text)
        assert "--help" in flags, (name, command, text)
        check_text(name, command, flags)
        check_bash(name, command, flags)
    if len(parts) > 1:
        assert set(parts) - {""} <= complete(name, ""), name
    print(f"  {name}: {sum(len(flags_of(text)) for text in parts.values())} flags, {len(parts) - 1} commands")
    return len(parts) - 1


def check_tools(name):
    manual = os.path.join(PAGES, name + ".1")
    run("bash", "-n", os.path.join(PAGES, name + ".bash"))
    checks = {
        "zsh": ["zsh", "-n", os.path.join(PAGES, "_" + name)],
        "mandoc": ["mandoc", "-Tlint", manual],
        "man": ["man", "--warnings", "-l", manual],
    }
    for tool, command in checks.items():
        if shutil.which(tool) is None:
            print(f"  no {tool}")
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env=os.environ | {"MANPAGER": "cat", "MANWIDTH": "80"})  # fmt: skip
        complaints = done.stderr + (done.stdout if tool == "mandoc" else "")
        assert done.returncode == 0 and not complaints, f"{' '.join(command)}\n{complaints}"


def main():
    commands = 0
    for program in PROGRAMS:
        commands += check_program(program)
        check_tools(os.path.basename(program))
        version = run(program, "--version").splitlines()
        assert re.fullmatch(rf"{os.path.basename(program)} \d+\.\d+\.\d+( \(\S+\))?", version[0]), version
        assert re.fullmatch(r"kernel targets: .*\bscalar\b.*; this CPU runs \S+", version[1]), version
    assert commands >= 10, "splitee's commands were not found"


main()
