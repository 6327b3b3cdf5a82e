"""Errors that a user can cause. Each message says what was given, what was expected and what to do.

WuerstchenError                 base of the errors below
├── CheckpointError             a checkpoint is unreadable, incomplete, unsafe, or of another network
│   └── WeightsMissingError     a checkpoint is not on this machine
├── InputError                  an argument is out of range, of the wrong shape, or of the wrong stage
├── WorkflowError               a workflow file cannot be read, or cannot run as it is
│   └── InvalidWorkflowError    a workflow was read, and one of its nodes or inputs is invalid
├── UsageError                  a command or call names a node, input, file or value that does not exist or does not fit
├── BackendError                a server or cluster that should run the workflow is out of reach, or answers wrongly
│   └── StatusError             a server answers with a status that says that the request failed
├── RunError                    a node failed while it ran
├── CannotWriteError            an output file of a batch cannot be written
└── OutputError                 the output of a command cannot be written

The last seven are defined in `nodes/headless`, beside the code that raises them.
"""


class WuerstchenError(Exception):
    """Base of this project's errors; catch it to catch them all."""


class CheckpointError(WuerstchenError):
    """A checkpoint is unreadable, incomplete, unsafe, or of another network."""


class WeightsMissingError(CheckpointError):
    """A checkpoint is not on this machine. Nothing is downloaded without being asked for."""


class InputError(WuerstchenError, ValueError):
    """An argument is out of range, of the wrong shape, or of the wrong stage."""


class WorkflowError(WuerstchenError):
    """A workflow file cannot be read, or cannot run as it is."""
