"""What can go wrong, as exceptions: all of them are SpliteeError. The message names the file, the option,
the field or the peer."""


class SpliteeError(Exception):
    """Of the library; also what its functions say with a code of their own (`code`)."""

    code = 0


class InvalidError(SpliteeError, ValueError):
    """An argument, an option or the order of calls is wrong."""


class NotFoundError(SpliteeError, FileNotFoundError):
    """A file, a column or a name is not there."""


class CorruptError(SpliteeError, ValueError):
    """Bytes that break their format."""


class UnsupportedError(SpliteeError):
    """Well formed, but not for this library or this network."""


class InputError(SpliteeError, OSError):
    """The operating system said no."""


class OutOfMemoryError(SpliteeError, MemoryError):
    """No memory is left."""


class PolicyError(SpliteeError):
    """A policy written in Python failed, or named an exit that there is not."""


class NoAnswerError(SpliteeError):
    """No server answered in time."""


class MissingError(SpliteeError, ImportError):
    """Something optional that this needs is not installed; the message says what."""


# By enum splitee_result of splitee.h.
BY_CODE = {
    1: InvalidError,
    2: NotFoundError,
    3: CorruptError,
    4: UnsupportedError,
    5: InputError,
    6: OutOfMemoryError,
    9: PolicyError,
    10: NoAnswerError,
}


def error_of(code: int, message: str) -> SpliteeError:
    """The exception for a result of the library."""
    error = BY_CODE.get(code, SpliteeError)(message)
    error.code = code
    return error
