"""Hostile checkpoints at the command and in the nodes: exit codes, folders of models, names, results of no numbers."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import tiny
from support.attacks import within
from support.hostile_checkpoints import CONTAINERS, payloads, safetensors, save_text
from support.workflows import QUICK_RUN
from wuerstchen_core.checkpoints.lora_files import lora_files
from wuerstchen_core.errors import CheckpointError, InputError, WeightsMissingError
from wuerstchen_core.stages import decode_stage_a, encode_stage_a, encode_stage_c, sample_stage_b, sample_stage_c
from wuerstchen_nodes import embeddings, models
from wuerstchen_nodes import lora as lora_nodes
from wuerstchen_nodes.headless.host import HeadlessHost
from wuerstchen_nodes.headless.report import FAILED, WEIGHTS_MISSING
from wuerstchen_nodes.registry import NODE_CLASS_MAPPINGS

WEIGHTS = "diffusion_pytorch_model.safetensors"
LOADERS = {"1": "text", "3": "text", "7": "stage_c", "9": "stage_b", "11": "stage_a"}
"""Loader of the text-to-image example -> checkpoint."""


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    tiny.save_stages(folder)
    save_text(folder / "text")
    return folder


@pytest.fixture
def run(tiny_models, attack) -> Callable[..., tuple[int, str]]:
    """Run the text-to-image example with tiny networks, some of them others."""

    def start(*verb: str, codes: frozenset[int] = frozenset({FAILED}), may_succeed: bool = False, **others: Any) -> Any:
        given = {f"{node}.model": tiny_models / name for node, name in LOADERS.items()}
        given |= {f"{node[1:]}.model": source for node, source in others.items()}
        chosen = [part for name, path in given.items() for part in ("--set", f"{name}={path}")]
        size = [part for setting in QUICK_RUN for part in ("--set", setting)]
        rest = ("--out", "out") if verb[0] == "run" else ()
        return attack.here(*verb, "text_to_image", *chosen, *size, *rest, codes=codes, may_succeed=may_succeed)

    return start


def test_the_tiny_networks_draw_a_picture(run):
    assert run("run", "--no-server", "--no-cache", may_succeed=True)[0] == 0
    assert len(list(Path("out").glob("*.png"))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("node", LOADERS)
def test_a_network_of_no_numbers_fails_and_is_named(node, value, tiny_models, tmp_path, run):
    name = LOADERS[node]
    file = "model.safetensors" if name == "text" else WEIGHTS
    folder = tmp_path / name
    folder.mkdir()
    for path in (tiny_models / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    state = load_file(folder / file)
    key = next(
        key
        for key in state
        if state[key].is_floating_point()
        and key.endswith(("out.1.bias", "clf.1.bias", "out_block.0.bias", "final_layer_norm.bias"))
    )
    save_file({**state, key: torch.full_like(state[key], value)}, folder / file)
    title = {
        "text": "text encoder of Stage",
        "stage_c": "Stage C gave",
        "stage_b": "Stage B gave",
        "stage_a": "Stage A gave",
    }
    _, error = run("run", "--no-server", "--no-cache", **{f"_{node}": folder})
    assert title[name] in error and "NaN or infinite" in error
    assert f"its weight {key.removeprefix('text_model.')} holds such values" in error and "another dtype" in error
    assert not list(Path("out").glob("*.png"))


NAN = float("nan")


@pytest.mark.parametrize("kind", ["image encoder", "encode", "decode", "C", "B"])
def test_a_result_of_no_numbers_is_an_error_of_the_stage_or_of_what_it_was_given(kind, tried):
    encoder, stage_a, stage_b, stage_c = tiny.image_encoder(), tiny.stage_a(), tiny.stage_b(), tiny.stage_c()
    images, text = torch.rand(1, 3, 128, 128), torch.randn(1, 5, 32)
    calls: dict[str, tuple[Any, Any, Any]] = {
        "image encoder": (encoder, images, lambda given: encode_stage_c(encoder, given)),
        "encode": (stage_a, images, lambda given: encode_stage_a(stage_a, given)),
        "decode": (stage_a, torch.randn(1, 4, 32, 32), lambda given: decode_stage_a(stage_a, given)),
        "C": (stage_c, text, lambda given: sample_stage_c(stage_c, given, width=128, height=128, seeds=[1])),
        "B": (stage_b, torch.randn(1, 16, 3, 3), lambda given: sample_stage_b(stage_b, given, seeds=[1])),
    }
    network, good, call = calls[kind]
    assert bool(call(good).isfinite().all())
    bad = good.clone()
    bad.view(-1)[3] = NAN
    keys = [name for name, _ in network.named_parameters()]
    with pytest.raises(InputError, match="holds values that are NaN or infinite"):
        call(bad)
    for weight in network.parameters():
        weight.data.fill_(NAN)
    with pytest.raises(CheckpointError, match=f"gave values that are NaN or infinite.*its weight {keys[0]} holds"):
        call(good)
    for weight in network.parameters():
        weight.data.fill_(3e38)
    with pytest.raises(CheckpointError, match=r"gave values that are NaN or infinite.*Its weights are finite"):
        call(good)
    tried(3)


@pytest.fixture
def bad_files(tmp_path) -> list[Path]:
    """One of each kind of file that is no checkpoint."""
    folder = tmp_path / "bad"
    folder.mkdir()
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "zero.pt").symlink_to("/dev/zero")
    (folder / "loop.ckpt").symlink_to("loop.ckpt")
    (folder / "folder.safetensors").mkdir()
    (folder / "empty.safetensors").touch()
    (folder / "page.bin").write_bytes(b"<html>")
    (folder / "header.safetensors").write_bytes(safetensors({}, length=2**63))
    (folder / "two\nlines.pt").write_bytes(b"x" * 100)
    (folder / "%s {0} $HOME.pt").write_bytes(b"x" * 100)
    (folder / "numbers.pt").write_bytes(pickle.dumps({"a": 1}))
    hostile = payloads(tmp_path / "canary")
    for name, container in CONTAINERS.items():
        for payload in ("os.system", "exec", "a laugh of tuples"):
            (folder / f"{name} {payload}.pt").write_bytes(container(hostile[payload]))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("node", ["7", "9", "11", "1"])
def test_a_run_with_a_bad_checkpoint_fails_in_one_line(node, bad_files, tmp_path, run):
    codes = frozenset({FAILED, WEIGHTS_MISSING, 3})
    for path in bad_files[int(node) % 4 :: 4]:
        run("run", "--no-server", codes=codes, **{f"_{node}": path})
        run("validate", codes=codes, may_succeed=True, **{f"_{node}": path})
    assert not (tmp_path / "canary").exists() and not list(Path("out").rglob("*.png"))


def test_info_lists_a_folder_of_bad_checkpoints(bad_files, tmp_path, attack, monkeypatch):
    (bad_files[0].parent / "config.json").write_text("[" * 10**5)
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(bad_files[0].parent))
    with within():
        code, _ = attack.here("info", may_succeed=True)
    assert code == 0 and not (tmp_path / "canary").exists()
    attack.inputs += len(bad_files)


def tree(folder: Path, kind: str) -> None:
    """Make a folder of models with links that lead anywhere."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    (folder / "a").mkdir()
    if kind == "parents":
        for name in "xyz":
            (folder / "a" / name).symlink_to("..")
            (folder / name).symlink_to(".")
    elif kind == "root":
        (folder / "root").symlink_to("/")
    elif kind == "proc":
        (folder / "proc").symlink_to("/proc/self")
    elif kind == "deep":
        os.makedirs(folder / "/".join(["d"] * 400))
    elif kind == "wide":
        for index in range(500):
            (folder / f"{index}").mkdir()
    elif kind == "each other":
        (folder / "b").mkdir()
        (folder / "a" / "to b").symlink_to("../b")
        (folder / "b" / "to a").symlink_to("../a")
    elif kind == "itself":
        (folder / "loop").symlink_to("loop")
        (folder / "loop.pt").symlink_to("loop.pt")
    elif kind == "pipes":
        os.mkfifo(folder / "pipe.pt")
        os.mkfifo(folder / "a" / "config.json")
        (folder / "\udcff.pt").touch()
        (folder / "two\nlines.pt").touch()
    (folder / "last").mkdir()
    (folder / "last" / "config.json").touch()


TREES = [
    "parents",
    "deep",
    "wide",
    "each other",
    "itself",
    "pipes",
    "root",
    pytest.param("proc", marks=pytest.mark.long),
]


@pytest.mark.parametrize("kind", TREES)
def test_a_folder_of_models_is_listed_once_whatever_its_links(kind, tmp_path, tried):
    folders = ["models"] if kind in ("root", "proc") else ["models", "models/loras", "models/embeddings"]
    for name in folders:
        tree(tmp_path / name, kind)
    host = HeadlessHost(model_folders=[tmp_path / "models"])
    with within():
        assert {"model.safetensors", "last"} <= set(host.model_names())
        assert len(host.lora_names()) + len(host.embedding_names()) < 10**5
    tried(len(folders))


NAMES = [
    "",
    ".",
    "..",
    "./",
    "/",
    "//",
    "~",
    "C:",
    "C:/x",
    "\\",
    "..\\x",
    "a\0b",
    "\udc80",
    "\ud83d",
    "a" * 5000,
    "a/" * 3000,
]
NAMES += [
    "../models/model.safetensors",
    "a/../../x",
    "ü" * 300,
    "\n",
    " ",
    "-",
    "*",
    "model.safetensors/x",
    "/dev/zero/x",
    "%00",
]
NO_NAMES: list[Any] = [None, 5, 1.5, True, [], ["model"], {}, {"a": 1}, b"model", ("a",)]


def test_a_name_of_nothing_is_a_clear_error_in_every_loader(tmp_path, tried, host):
    (tmp_path / "models").mkdir()
    for name in NAMES:
        for part in ("C", "B", "A", "text_encoder_c", "image_encoder"):
            for find in (models.source_files, lambda name, part: models.read_files(name, part, "default")):
                with within(), pytest.raises((CheckpointError, InputError)) as caught:
                    find(name, part)
                assert len(str(caught.value)) < 2000
        with pytest.raises(WeightsMissingError):
            lora_files(lora_nodes.source_of(name))
        assert host.find_embedding(name) is None and name not in embeddings.Embeddings()
        tried(1)


@pytest.mark.parametrize(
    "name", [each for each in NODE_CLASS_MAPPINGS if hasattr(NODE_CLASS_MAPPINGS[each], "source_files")]
)
def test_what_is_no_name_is_an_input_error_in_every_loader(name, tried):
    loader: Any = NODE_CLASS_MAPPINGS[name]
    wanted = {
        key: value[1].get("default")
        for kind in loader.INPUT_TYPES().values()
        for key, value in kind.items()
        if len(value) > 1
    }
    for field in ("model", "name", "dtype", "for_stage"):
        for value in NO_NAMES if field in wanted else []:
            if field == "name" and value is None:  # a link, whose value is not known yet
                continue
            function = getattr(loader, "precision" if field == "dtype" else "source_files", loader.source_files)
            given = {"stage_c": None, "strength": 1.0, **wanted} if field == "name" else wanted
            with pytest.raises((InputError, WeightsMissingError)) as caught:
                function(**{**given, field: value})
            assert len(str(caught.value)) < 2000
            tried(1)
