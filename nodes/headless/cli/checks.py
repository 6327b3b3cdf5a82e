"""Checks of a workflow that is ready to run: weights that are missing, weights to load, and sizes that do not suit."""

from dataclasses import dataclass
from pathlib import Path

from wuerstchen_core.checkpoints.components import TEXT_ENCODERS
from wuerstchen_core.checkpoints.presets import PRESETS, size_warnings
from wuerstchen_core.checkpoints.sources import models_folder
from wuerstchen_core.errors import CheckpointError, InputError, WeightsMissingError
from wuerstchen_core.geometry import Size

from ..execution.signatures import loaded_files
from ..report import Report
from ..workflow.catalog import Catalog
from ..workflow.prompt import Prompt, ancestors, is_link, links_of, title_of

_SAMPLER, _LOADER = "WuerstchenStageCSampler", "WuerstchenLoadStageC"


@dataclass(frozen=True)
class Weights:
    """Weights that a node loads.

    Attributes:
        node_id: Id of the node.
        model: Name of the model.
        part: Name of the part, as in `components.COMPONENTS`; empty for a node of another kind.
        title: Name of the part for people.
        files: Files on this machine; None if one of them is missing.
    """

    node_id: str
    model: str
    part: str
    title: str
    files: tuple[Path, ...] | None

    @property
    def size(self) -> int:
        """Size of the files in bytes."""
        return sum(path.stat().st_size for path in self.files or () if path.exists())


def weights_of(prompt: Prompt, catalog: Catalog) -> list[Weights]:
    """List the weights that the nodes of a prompt load. The host of the run has to be in use.

    Nodes whose model is linked, and models that are damaged, are left out: they are reported when they run. So are
    nodes that no output needs, which `validate` has not checked.
    """
    found: list[Weights] = []
    needed = ancestors(prompt, catalog.outputs_of(prompt))
    for node_id, node in prompt.items():
        if node_id not in needed:
            continue
        node_class = catalog.classes[node["class_type"]]
        if not hasattr(node_class, "source_files") or links_of(prompt, node_id):
            continue
        files: tuple[Path, ...] | None = None
        try:
            files = tuple(loaded_files(catalog, node))
        except WeightsMissingError:
            pass
        except (CheckpointError, OSError):
            continue
        component = getattr(node_class, "COMPONENT", None) or TEXT_ENCODERS.get(node["inputs"].get("for_stage"))
        part, title = (component.part, component.title) if component else ("", title_of(prompt, node_id))
        found.append(Weights(node_id, str(node["inputs"].get("model", "")), part, title, files))
    return found


def report_missing(report: Report, weights: list[Weights]) -> bool:
    """Report the weights that are not on this machine, one line a model, and return whether there are any."""
    models: dict[str, list[Weights]] = {}
    for each in weights:
        if each.files is None:
            models.setdefault(each.model, []).append(each)
    for model, missing in models.items():
        nodes = list(dict.fromkeys(each.node_id for each in missing))
        titles = list(dict.fromkeys(each.title for each in missing))
        line = _how_to_get(model, missing, titles)
        report.result(line, event="missing_weights", model=model, parts=titles, nodes=nodes, message=line)
    return bool(models)


def _how_to_get(model: str, missing: list[Weights], titles: list[str]) -> str:
    """Return one line with the weights of a model that are missing, and the command or the folder that gets them."""
    places = [PRESETS[model].get(each.part) for each in missing] if model in PRESETS else []
    repos = dict.fromkeys(place.repo for place in places if place is not None and place.repo is not None)
    start = f"weights missing: {model} ({', '.join(titles)})."
    if not repos:
        return f"{start} Put it into {models_folder()}."
    folders = ", ".join(str(models_folder() / repo) for repo in repos)
    return f"{start} Run `wuerstchen download {model}`, or put the files into {folders}."


def warnings_of(prompt: Prompt) -> list[str]:
    """List the warnings about the image sizes of a prompt, one line each."""
    found: list[str] = []
    for node_id, node in prompt.items():
        if node["class_type"] != _SAMPLER or is_link(node["inputs"].get("latent")):  # a latent decides the size
            continue
        try:
            size = Size(node["inputs"].get("width"), node["inputs"].get("height"))
        except InputError:  # linked to another node
            continue
        for model in _models_of(prompt, node_id) or [""]:
            found += size_warnings(size, model)
    return list(dict.fromkeys(found))


def _models_of(prompt: Prompt, node_id: str) -> list[str]:
    """List the models that Stage C of a sampler is made from."""
    sources = [link.source for link in links_of(prompt, node_id) if link.name == "stage_c"]
    loaders = (each for each in ancestors(prompt, sources) if prompt[each]["class_type"] == _LOADER)
    return [str(prompt[each]["inputs"].get("model")) for each in loaders]
