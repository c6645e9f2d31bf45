"""The small files of a checkpoint folder: read whole, bounded, and never trusted; and how a converter
says what is wrong."""

import argparse
import json
import os
import stat
import sys

MAX_TEXT_BYTES = 64 << 20
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged or foreign; the message names file and tensor."""


def say(program, message):
    """One line on standard error, whatever names a hostile file brings into it."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    print(f"{program}: {line}", file=sys.stderr)


def exit_status(program, convert, arguments):
    """Runs convert(arguments); what went wrong is told, and the status of the program returned."""
    try:
        convert(arguments)
    except CheckpointError as error:
        say(program, str(error))
    except OSError as error:
        say(program, f"{error.filename or arguments.output}: {error.strerror or error}")
    except MemoryError:
        say(program, f"{arguments.checkpoint}: not enough memory")
    else:
        return 0
    return 1


def folder_parser(doc, dtypes, dtype_help, metavar="FOLDER", folder_help="folder as described below"):
    """The arguments of all converters of a folder; `doc` is the program's docstring, whose first line says what
    it is for."""
    summary, _, details = doc.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar=metavar, help=folder_help)
    parser.add_argument("--output", required=True, metavar="M.gguf", help="file to write; replaced "
                        "as a whole or not at all")  # fmt: skip
    parser.add_argument("--dtype", choices=dtypes, default="f32", help=dtype_help)
    return parser


def check_file(path):
    """Refuses what is no regular file (a pipe would wait for ever) and a pointer of git-lfs."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: not a regular file")
        with open(path, "rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if start == _LFS_POINTER:
        raise CheckpointError(f"{path}: a pointer of git-lfs, not the file: get it by git lfs pull")


def read_text(path):
    check_file(path)
    try:
        with open(path, "rb") as file:
            # No more memory than the file needs, which may grow meanwhile.
            data = file.read(min(os.fstat(file.fileno()).st_size, MAX_TEXT_BYTES) + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_TEXT_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_TEXT_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 at byte {error.start}") from error


def unique_keys(pairs):
    """For json's object_pairs_hook: a dict, or ValueError where a key comes twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key comes twice")
    return result


def read_json(path):
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error


def read_json_object(path):
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def read_optional_object(path):
    """The object, or {} where there is no such file."""
    return read_json_object(path) if os.path.lexists(path) else {}


def check_text(text, where):
    """`text` if it is a string of Unicode characters."""
    if not isinstance(text, str) or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise CheckpointError(f"{where}: {text!r} is not Unicode text")
    return text
