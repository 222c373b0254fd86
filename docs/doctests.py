"""Shows the examples of docstrings as code, in the reference that mkdocstrings makes of them."""

import re
from typing import Any

import griffe

# from a prompt at the start of a line to the next empty line
EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Doctests(griffe.Extension):
    """Puts fences around the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrites one docstring."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
