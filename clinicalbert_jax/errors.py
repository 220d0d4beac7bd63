"""The one exception whose message is meant for the person at the terminal."""


class UserError(Exception):
    """An error that the user can correct: says what was expected, what was found, where, and what to do.

    The message is one line and never holds the text of a note. `cli.run` prints it and exits with 2.
    """
