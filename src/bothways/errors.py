"""What ends a piece of work before it is done."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the place (file, line, column or argument) and how to correct it. The
    command line prints it and exits with status 2; in Python it is an ordinary `ValueError`.
    """


class Stopped(Exception):
    """A run was asked to stop (SIGTERM) and has saved a checkpoint; the message says where and how to go on."""
