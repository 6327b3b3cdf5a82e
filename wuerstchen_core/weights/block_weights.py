"""Shares of a merge by block: a curve over the depth of Stage C, or one share for each third of it."""

import re
from dataclasses import dataclass

from ..errors import InputError

GROUPS = ("in", "mid", "out")
"""Thirds of the blocks, in their order. The layers before the blocks go with "in", those after them with "out"."""


@dataclass(frozen=True)
class BlockWeights:
    """Share of a merge that each block takes.

    Block i of `depth` is the (residual, timestep, attention) triple of the keys `blocks.3i` to `blocks.3i+2`.

    Attributes:
        curve: Shares at evenly spaced depths, linear between them; `depth` numbers give one for each block. The layers
            before the blocks take the first one, those after them the last one. A single number holds everywhere.
        groups: Shares of `GROUPS` in place of a curve; empty for the curve.
    """

    curve: tuple[float, ...] = (1.0,)
    groups: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "BlockWeights":
        """Read shares as people write them.

        Args:
            text: Numbers of a curve ("1, 0.5, 0"), groups ("in=1, mid=0.5, out=0"; a group that is left out has 1), or
                nothing for 1 everywhere.
        Raises:
            InputError: It is neither.
        """
        entries = [entry for entry in re.split(r"[\s,;]+", text.strip()) if entry]
        if not entries:
            return EVERYWHERE
        try:
            if "=" not in text:
                return cls(tuple(_share(entry) for entry in entries))
            named = dict(_named(entry) for entry in entries)
        except ValueError as error:
            raise InputError(
                f"The shares of blocks are {text!r}, of which {error} cannot be read; expected numbers from 0 to 1 "
                f"along the depth, such as '1, 0.5, 0', or groups, such as 'in=1, mid=0.5, out=0'."
            ) from None
        return cls(groups=tuple(named.get(group, 1.0) for group in GROUPS))

    def check(self, depth: int) -> None:
        """Raise InputError where the curve has more numbers than the network has blocks."""
        if len(self.curve) > depth:
            raise InputError(
                f"The curve has {len(self.curve)} shares; expected at most {depth}, one for each block of this network."
            )

    def of(self, key: str, depth: int) -> float:
        """Return the share of a weight, 0..1.

        Args:
            key: Key of the weight, under its published name.
            depth: Blocks of the network.
        """
        shares = self.groups or self.curve
        found = re.match(r"blocks\.(\d+)\.", key)
        if found is None or len(shares) == 1:
            return shares[-1] if key.startswith("out.") else shares[0]
        block = int(found[1]) // 3
        if self.groups:
            return self.groups[block * len(GROUPS) // depth]
        place = block / max(1, depth - 1) * (len(self.curve) - 1)
        low = min(int(place), len(self.curve) - 2)
        if len(self.curve) == depth:
            return self.curve[block]
        return self.curve[low] + (place - low) * (self.curve[low + 1] - self.curve[low])


def _share(entry: str) -> float:
    try:
        value = float(entry)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(repr(entry))
    return value


def _named(entry: str) -> tuple[str, float]:
    group, _, share = entry.partition("=")
    if group not in GROUPS:
        raise ValueError(repr(entry))
    return group, _share(share)


EVERYWHERE = BlockWeights()
"""The whole merge in every block."""
