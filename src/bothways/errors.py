"""The one error that is the caller's to mend."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the place (file, line, column or argument) and the mend. The command line
    prints it and exits with status 2; in Python it is an ordinary `ValueError`.
    """
