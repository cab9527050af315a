"""`{verbs}`: every verb of the command line with every setting, from the functions themselves.

What stands there is what `bothways VERB --help` says: docstrings of functions and of the fields of configurations.
"""

from __future__ import annotations

import argparse
import re
import warnings
from typing import Any

import tyro
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bothways.cli import VERBS

USUAL = re.compile(r"\s*\((default: .*|required|repeatable)\)$", re.DOTALL)


def parser_of(verb: str) -> argparse.ArgumentParser:
    """What the command line reads for one verb."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro offers no other way to the parser yet
        return tyro.extras.get_parser(VERBS[verb], prog=f"bothways {verb}")


def setting(action: argparse.Action) -> nodes.definition_list_item:
    """One flag or argument: its names and values, then what it says."""
    names = ", ".join(action.option_strings)
    values = "" if action.metavar is None else str(action.metavar).replace("{None}|", "")
    term = nodes.term("", "", nodes.literal("", f"{names} {values}".strip()))
    told = action.help or ""
    usual = USUAL.search(told)
    paragraph = nodes.paragraph("", USUAL.sub("", told).strip() + " ")
    if usual and usual[1] != "default: None":
        paragraph += nodes.emphasis("", usual[1])
    return nodes.definition_list_item("", term, nodes.definition("", paragraph))


class Verbs(SphinxDirective):
    """A section for each verb."""

    def run(self) -> list[nodes.Node]:
        """Sections with a list of settings each."""
        made: list[nodes.Node] = []
        for verb in VERBS:
            parser = parser_of(verb)
            name = nodes.make_id(f"bothways-{verb}")
            section = nodes.section(ids=[name], names=[name])
            section += nodes.title("", f"bothways {verb}")
            section += [nodes.paragraph("", part) for part in (parser.description or "").split("\n\n")]
            for group in parser._action_groups:
                actions = [action for action in group._group_actions if action.dest != "help"]
                if actions:
                    section += nodes.definition_list("", *map(setting, actions))
            made.append(section)
        return made


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("verbs", Verbs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
