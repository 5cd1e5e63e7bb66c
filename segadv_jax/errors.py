"""The one error that is the user's to mend."""


class InputError(ValueError):
    """Bad input by the user: one line that names the file or field, what is wrong, what to do."""
