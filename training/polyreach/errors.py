"""The error that a user can mend: the command line prints it as one line, without a traceback."""


class UserError(ValueError):
    """Something asked for is not possible; the message names the value and the legal choices."""
