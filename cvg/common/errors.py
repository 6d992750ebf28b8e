"""The one exception a user is meant to see."""


class UserError(Exception):
    """Bad input. The message names the input, the reason and the remedy; commands print it and exit with code 2."""
