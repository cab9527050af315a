"""What ends a piece of work before it is done."""

import re

MARKS = "])}>'\"’”».,:;"
"""What may follow an address in a sentence."""


def redacted(text: str) -> str:
    """A text without the users, passwords and queries (which may be signatures) of the addresses in it."""
    words = re.split(r"(\s+)", text)
    return "".join(without_secrets_in(word) if "://" in word else word for word in words)


def without_secrets_in(word: str) -> str:
    """The same of a word with an address, or with several in a row, as of a file in an archive; the marks of the
    sentence stay."""
    parts = re.split(r"::(?=[A-Za-z0-9+.-]*://)", word)
    return "::".join(map(without_query, map(without_user, parts)))


def without_user(address: str) -> str:
    """An address without user and password, which may hold what it should not, such as a /."""
    scheme, sign, rest = address.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, colon, after = authority.partition(":")
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif colon and not after.isdigit() and not after.startswith(":") and "[" not in user:  # no port, nor IPv6
        rest = rest[rest.rfind("@") + 1 :]
    return scheme + sign + rest


def without_query(address: str) -> str:
    """An address without query and fragment, but with the marks of the sentence; a path of this machine has none."""
    scheme, sign, rest = address.partition("://")
    path = re.match(r"[^?#]*", rest)[0]  # type: ignore[index]
    if not sign or re.search(r"\b(?:file|local)$", scheme) or path == rest:
        return address
    query = re.match(r"[!-~]*", rest[len(path) :])[0]  # type: ignore[index]
    left = query[max(1, len(query.rstrip(MARKS))) :] + rest[len(path) + len(query) :]
    return scheme + sign + path + left


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
