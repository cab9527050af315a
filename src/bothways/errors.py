"""What ends a piece of work before it is done."""

import re

USER = re.compile(r"(?<=://)(?:[^\s/?#]*|[^\s/?#:@[]*:(?!:|\d+[/?#])\S*)@")
"""User and password in an address; a password may hold what it should not, such as a /."""
QUERY = re.compile(r"((?<!\bfile)(?<!\blocal)://[^\s?#]*)[?#]\S*?(?=[\])}>'\"’”».,:;]*(?:\s|$))")
"""An address in a text and its query, without the marks of the sentence; a path of this machine has no query."""


def redacted(text: str) -> str:
    """A text without the users, passwords and queries (which may be signatures) of the addresses in it."""
    return QUERY.sub(r"\1", USER.sub("", text))


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the place (file, line, column or argument) and how to correct it. The
    command line prints it and exits with status 2; in Python it is an ordinary `ValueError`. Messages are shown, logged
    and written beside answers, so no address in one keeps its password or signature.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class Stopped(Exception):
    """A run was asked to stop (SIGTERM) and has saved a checkpoint; the message says where and how to go on."""
