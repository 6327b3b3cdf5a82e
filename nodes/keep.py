"""Keep on Disk: a result that outlives ComfyUI, so that nothing before it runs again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .arguments import checked
from .host import host
from .widgets import OFF, RENEW, USE

if TYPE_CHECKING:
    from .host import Kept

KINDS = "CONDITIONING,LATENT,IMAGE,MASK"
"""Type of the socket: any of these."""
SHOWN = "wuerstchen_kept"
"""Kind of item by which the page learns what this node did, one dictionary a run."""


@checked
class KeepOnDisk:
    """Passes a value on, and keeps it on disk under a key that is made from everything before it."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Keeps what goes through it on disk. While nothing before it changes, neither in the graph nor in a file, the "
        "value comes from disk, also after a restart, and no node before it runs or loads a model. The command "
        "wuerstchen shares what is kept; its verb cache lists and clears it."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen cache", "würstchen cache", "cache", "store", "persist", "save latent"]
    FUNCTION = "keep"
    RETURN_TYPES = (KINDS,)
    RETURN_NAMES = ("value",)
    OUTPUT_TOOLTIPS = ("The same value.",)
    INPUT_IS_LIST = True
    OUTPUT_IS_LIST = (True,)
    PASSES_ON = "value"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "value": (
                    KINDS,
                    {"lazy": True, "tooltip": "What to keep: a CONDITIONING, a LATENT, an IMAGE or a MASK."},
                ),
                "mode": (
                    [USE, RENEW, OFF],
                    {
                        "default": USE,
                        "tooltip": "use: take the value from disk where it is there, else keep it. renew: keep it "
                        "anew each time it arrives. off: pass it on, read and keep nothing.",
                    },
                ),
            },
            "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"},
        }

    def __init__(self) -> None:
        self._found: tuple[Kept, list[Any]] | None = None

    def check_lazy_status(
        self, mode: list[str], prompt: list[Any], unique_id: list[str], value: Any = None
    ) -> list[str]:
        """Ask for the value unless it is on disk. It is read here, so that it cannot vanish before `keep` runs."""
        self._found = None
        if mode[0] == USE:
            kept = host().kept(prompt[0], unique_id[0])
            values = None if kept is None else kept.read()
            if kept is not None and values is not None:
                self._found = kept, values
        return ["value"] if self._found is None else []

    def keep(
        self,
        value: list[Any] | None = None,
        mode: list[str] | None = None,
        prompt: list[Any] | None = None,
        unique_id: list[str] | None = None,
    ) -> Any:
        if self._found is not None:
            (kept, values), self._found = self._found, None
            return _shown(values, {"state": "hit", **kept.facts(values)})
        values = value or []
        kept = host().kept(prompt[0], unique_id[0]) if prompt and unique_id else None
        if kept is None:  # this host's executor keeps results by itself
            return (values,)
        if mode is not None and mode[0] == OFF:
            return _shown(values, {"state": OFF})
        if kept.refused:
            return _shown(values, {"state": "refused", "reason": kept.refused})
        if not kept.write(values, replaces=mode is not None and mode[0] == RENEW):
            return _shown(values, {"state": "refused", "reason": "it could not be written; the log says why"})
        return _shown(values, {"state": "kept", **kept.facts(values)})


def _shown(values: list[Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of the node, with what the page shows on it."""
    reason = facts.get("reason")
    host().notice(f"Not kept: {reason}." if reason else "")
    return {"ui": {SHOWN: [dict(facts)]}, "result": (values,)}
