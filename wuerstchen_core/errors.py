"""Every error that a user can cause. Each message says what was got, what was expected and what to do."""


class WuerstchenError(Exception):
    """Base of this project's errors; catch it to catch them all."""


class CheckpointError(WuerstchenError):
    """A checkpoint is unreadable, incomplete, unsafe, or of another network."""


class WeightsMissingError(CheckpointError):
    """A checkpoint that is not on this machine was asked for. Nothing is downloaded unasked."""


class InputError(WuerstchenError, ValueError):
    """An argument is out of range, of the wrong shape, or of the wrong stage."""


class WorkflowError(WuerstchenError):
    """A workflow file cannot be read or cannot run as it is."""
