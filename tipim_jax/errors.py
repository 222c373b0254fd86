"""What a user gave and cannot be used, told apart from what is wrong with the program."""


class UserError(ValueError):
    """One sentence for the user: what cannot be used, and what to do about it.

    Commands and launches print it and end with an exit code; every other exception is a fault of the
    program and keeps its traceback.
    """
