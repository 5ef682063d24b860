"""What can go wrong in a program that trains. Text for its author, in whole sentences."""

from trainyard.errors import TrainyardError


class RuntimeMistake(TrainyardError):
    """Something that the author of a program can put right."""


class NoDataset(RuntimeMistake):
    """There is no such split, or no dataset at all."""


class CannotSave(RuntimeMistake):
    """A state holds what no file of ours can; or another process could not write its part."""


class CannotResume(RuntimeMistake):
    """There is a checkpoint, and this program cannot go on from it."""


class DamagedFile(RuntimeMistake):
    """A file of a checkpoint is not what was written."""


class NotFinite(RuntimeMistake):
    """A metric is no finite number: the training has gone astray."""


class NotInitialised(RuntimeMistake):
    """There are several processes, and they have not joined hands yet."""


class UnknownModel(RuntimeMistake):
    """What was given to be saved is no model that can be."""
