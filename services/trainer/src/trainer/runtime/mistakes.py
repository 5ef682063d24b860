"""What the author of a job can put right: said once, with a hint, and never tried again."""


class UserMistake(Exception):
    """The data or the settings of this job cannot work."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
