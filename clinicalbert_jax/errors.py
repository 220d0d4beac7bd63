"""The one exception whose message is meant for the person at the terminal."""


class UserError(Exception):
    """A mistake the user can mend: says what was expected, what was found, where, and what to do.

    The message is one line and never holds the text of a note. `commands.run` prints it and exits with 2.
    """
