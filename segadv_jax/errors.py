"""The one error that is the user's to mend."""

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input by the user: one line that names the file or field, what is wrong, what to do.

    Where much is wrong at once, `details` are further lines, one for each thing.
    """

    def __init__(self, message: object = "", details: Iterable[str] = ()):
        super().__init__(message)
        self.message, self.details = str(message), tuple(details)

    def __str__(self) -> str:
        return "\n".join((self.message, *self.details))
