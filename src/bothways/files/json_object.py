"""Reading JSON that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bothways.errors import InputError
from bothways.files.signs import require_own_content


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError, naming the file, if it holds none; FileNotFoundError."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        require_own_content(path)
        raise InputError(f"{path}: this is not JSON ({error}); restore the file.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: this is JSON but not an object of keys and values; restore the file.")
    return content
