"""Which version of a page a translation is of: `python docs/translations.py` after the translation is up to date.

The first line of `page.zh.md` names the digest of `page.md`; a test fails where they differ. So a page that changes
asks for its translation.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

GUIDE = Path(__file__).parent / "guide"
FIRST_LINE = re.compile(r"<!-- translation of (?P<page>[\w.]+), sha256 (?P<digest>\w{12}) -->\n")


def digest(page: Path) -> str:
    """Twelve digits of the SHA-256 of a page."""
    return sha256(page.read_bytes()).hexdigest()[:12]


def original_of(translation: Path) -> Path:
    """page.zh.md → page.md."""
    return translation.with_name(translation.name.replace(".zh.md", ".md"))


def main() -> None:
    """Write the digest of every page into its translation."""
    for translation in sorted(GUIDE.rglob("*.zh.md")):
        original = original_of(translation)
        text = FIRST_LINE.sub("", translation.read_text("utf-8"), count=1)
        line = f"<!-- translation of {original.name}, sha256 {digest(original)} -->\n"
        translation.write_text(line + text, "utf-8")


if __name__ == "__main__":
    main()
