"""What a user gave and cannot be used, told apart from what is wrong with the program."""


class UserError(ValueError):
    """One sentence for the user: what cannot be used, and what to do about it.

    Commands and launches print it and end with an exit code; every other exception is a fault of the
    program and keeps its traceback. As text it is one line that any terminal can print, whatever names of
    files it speaks of.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class Notice(UserWarning):
    """What users should know of what they asked for, though it is done all the same."""


def printable(text: str) -> str:
    """`text` with escapes for what cannot be printed: line breaks, control characters, undecodable bytes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
