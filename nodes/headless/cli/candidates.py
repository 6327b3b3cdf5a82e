"""Words that complete a command line, for the scripts of `wuerstchen completion`.

The scripts call `wuerstchen _complete KIND WORD [TYPED ...]`, a verb that --help does not list. It prints the words of
a kind that begin with WORD, one per line. TYPED are the words of the command line before WORD.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_core.errors import WuerstchenError

from ..host import HeadlessHost
from ..run import resolve
from ..stock.nodes import default_catalog
from ..workflow import examples
from ..workflow.documents import load_workflow
from ..workflow.overrides import slots
from ..workflow.prompt import title_of
from .parser import build_parser


def candidates(kind: str, word: str, typed: Sequence[str]) -> list[str]:
    """Return the words that may complete `word`.

    Args:
        kind: One of "workflow", "model" and "slot".
        word: Word to complete, without quotes.
        typed: Words before it, with or without the name of the program.
    """
    words = {"workflow": _workflows, "model": _models, "slot": _slots}.get(kind)
    if words is None:
        return []
    try:
        found = words(word, typed)
        return sorted(each for each in set(found) if each.startswith(word))
    except (WuerstchenError, OSError):  # a workflow that cannot be read has no inputs to offer
        return []


def _workflows(word: str, typed: Sequence[str]) -> Iterable[str]:
    short = examples.names()
    return [*short, *(examples.PREFIX + name for name in short)] if word else short


def _models(word: str, typed: Sequence[str]) -> Iterable[str]:
    return [*PRESETS, *HeadlessHost().model_names()]


def _slots(word: str, typed: Sequence[str]) -> Iterable[str]:
    """List "NODE.input=" for the inputs of the typed workflow, and "NODE.input=value" after a "=" of a choice.

    A node goes by its title, or by its id where other nodes have the same title or an id is being typed.
    """
    catalog = default_catalog()
    prompt = resolve(load_workflow(examples.locate(_workflow_in(typed))), catalog=catalog).prompt
    titles = {node_id: title_of(prompt, node_id) for node_id in prompt}
    count = Counter(title.casefold() for title in titles.values())
    for node_id, declared, _ in slots(prompt, catalog):
        title = titles[node_id]
        node = node_id if count[title.casefold()] > 1 or word[:1].isdigit() else title
        slot = f"{node}.{declared.name}="
        if word.startswith(slot):
            yield from (f"{slot}{choice}" for choice in declared.choices or ())
        else:
            yield slot


def _workflow_in(typed: Sequence[str]) -> str | None:
    """Return the workflow in an unfinished command line: its first word that is no option, value or verb."""
    verbs = build_parser().verbs()
    words = iter(typed)
    verb = next((verbs[word] for word in words if word in verbs), None)
    if verb is None:
        return None
    for word in words:
        if not word.startswith("-"):
            return word
        option = verb.options().get(word)
        if option is not None and option.nargs != 0:
            next(words, None)
    return None
