"""Follow the instructions of a pickle without running them, and refuse what no dictionary of tensors needs.

A few bytes of a pickle can copy, hash or compute a gigabyte, so what is named, called and used as a key is bounded.
"""

import io
import pickletools
import re
from pathlib import Path
from typing import Any, NamedTuple

from .refusals import refuse, refuse_code

_MOST_OPCODES = 300_000
_MOST_IN_TUPLES = 100_000
"""Most values in a tuple, those in its own tuples included."""
_MOST_ARGUMENTS = 3_000_000
"""Most values in the arguments of all calls. A tensor has about 20."""
_MOST_STATES = 20
"""Most objects with attributes: one for each state dict, whose versions are attributes."""
_MOST_DIMENSIONS = 64
"""Most values of a torch.Size."""
_DICTIONARY, _SHAPE, _DEVICE = "collections.OrderedDict", "torch.Size", "torch.device"
_CALLED = {
    _DICTIONARY: 0,
    _SHAPE: 1,
    _DEVICE: 2,
    "torch._utils._rebuild_tensor": 4,
    "torch._utils._rebuild_tensor_v2": 6,
    "torch._utils._rebuild_tensor_v3": 7,
    "torch._utils._rebuild_parameter": 3,
}
"""Function or class that a pickle may call -> most arguments: those of complex numbers and attributes are one more."""
_NAMED = re.compile(
    r"torch\.(?:cuda\.)?[A-Z]\w*Storage|torch\.storage\.(?:Untyped|Typed)Storage"
    r"|torch\.(?:bool|bfloat16|(?:u?int|float|complex)\d+(?:_e\d\w*)?)"
)
"""Kinds of numbers, which a pickle may name and not call."""
_TEXTS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
)
_SMALL = frozenset({"BININT", "BININT1", "BININT2"})


class _Item(NamedTuple):
    """An object on the stack of a pickle.

    Attributes:
        size: Number of values in it: 1, more for a tuple.
        kind: "text", "number" for a small one, "large" for another, "numbers" for a tuple of such, "tuple", "list",
            the name of a global, or "".
        lists: Whether it is a list, or a tuple that holds one. A list may be as long as it likes.
        length: Number of values in a tuple, those in its own tuples not included.
    """

    size: int = 1
    kind: str = ""
    lists: bool = False
    length: int = 0


def check_instructions(path: Path, data: bytes, count: int) -> None:
    """Check the first pickles in some bytes.

    Args:
        path: File that they are from, for messages.
        data: The bytes.
        count: Number of pickles.
    Raises:
        CheckpointError: One is too long, its tuples are too large, or it needs what tensors do not.
        ValueError, LookupError: One is damaged.
    """
    stream = io.BytesIO(data)
    opcodes = 0
    for _ in range(count):
        pickled = _Pickle(path)
        for opcode, argument, _place in pickletools.genops(stream):
            opcodes += 1
            if opcodes > _MOST_OPCODES:
                refuse(path, f"its pickle has more than {_MOST_OPCODES:,} instructions")
            pickled.follow(opcode, argument)
        if stream.tell() == len(data):
            break


class _Pickle:
    """Follows one pickle: what is on its stack and what it has put aside, without the values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[_Item] = []
        self._marks: list[int] = []
        """Lengths of the stack at which marks are."""
        self._memo: dict[Any, _Item] = {}
        self._arguments = self._states = 0

    def follow(self, opcode: Any, argument: Any) -> None:
        """Follow one instruction.

        Args:
            opcode: The instruction, as pickletools describes it.
            argument: Its argument.
        """
        name, stack = opcode.name, self._stack
        if name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MARK":
            self._marks.append(len(stack))
        else:
            taken = self._taken(opcode)
            made = self._made(name, argument, taken)
            stack += [made for _ in opcode.stack_after]

    def _taken(self, opcode: Any) -> list[_Item]:
        """Take from the stack what an instruction takes. Raises: IndexError."""
        before, stack = opcode.stack_before, self._stack
        start = self._marks.pop() if pickletools.markobject in before else len(stack) - len(before)
        if opcode.name in ("SETITEMS", "APPENDS", "ADDITEMS"):
            start -= 1
        if start < 0:
            raise IndexError("its pickle takes more from the stack than there is")
        taken = stack[start:]
        del stack[start:]
        return taken

    def _made(self, name: str, argument: Any, taken: list[_Item]) -> _Item:
        """Check an instruction, and return what it makes. Raises: CheckpointError."""
        if name.startswith("TUPLE") or name == "EMPTY_TUPLE":
            return self._tuple(taken)
        if name in ("STACK_GLOBAL", "INST"):  # torch.save writes neither
            refuse(self._path, f"it is damaged or holds more than tensors ({name})")
        if name == "GLOBAL":
            known = str(argument).replace(" ", ".", 1)
            if known not in _CALLED and not _NAMED.fullmatch(known):
                refuse_code(self._path, known)
            return _Item(kind=known)
        if name in ("REDUCE", "NEWOBJ"):
            self._check_call(*taken)
        elif name in ("SETITEM", "SETITEMS"):
            if any(key.kind not in ("text", "number") for key in taken[1::2]):
                refuse(self._path, "a key in it is neither a text nor a small whole number")
            return taken[0]
        elif name == "BUILD":
            self._states += 1
            if self._states > _MOST_STATES:
                refuse(self._path, f"more than {_MOST_STATES} objects in it have attributes")
        elif name in ("APPEND", "APPENDS", "EMPTY_LIST", "LIST"):
            return _Item(kind="list", lists=True)
        if name in _TEXTS:
            return _Item(kind="text")
        return _Item(kind="number" if name in _SMALL else "large" if name == "LONG1" else "")

    def _tuple(self, taken: list[_Item]) -> _Item:
        size = 1 + sum(item.size for item in taken)
        if size > _MOST_IN_TUPLES:
            refuse(self._path, f"a tuple in it holds more than {_MOST_IN_TUPLES:,} values")
        plain = all(item.kind in ("number", "large", "numbers") for item in taken)
        return _Item(size, "numbers" if plain else "tuple", any(item.lists for item in taken), len(taken))

    def _check_call(self, function: _Item, given: _Item) -> None:
        """Check a call. Raises: CheckpointError."""
        if function.kind not in _CALLED:
            refuse_code(self._path, f"a call of {function.kind or 'something'}")
        self._arguments += given.size
        if self._arguments > _MOST_ARGUMENTS:
            refuse(self._path, f"the arguments of its calls have more than {_MOST_ARGUMENTS:,} values")
        fits = given.kind in ("tuple", "numbers") and not given.lists and given.length <= _CALLED[function.kind]
        if function.kind == _SHAPE:
            fits = fits and given.kind == "numbers" and given.size <= _MOST_DIMENSIONS
        if not fits:
            refuse(self._path, f"it calls {function.kind} with something else than torch.save does")
