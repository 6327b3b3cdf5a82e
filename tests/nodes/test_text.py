"""Text Encode and what the samplers make of its prompts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from support.hosts import FakeHost, Kept
from wuerstchen_core import TextEncoder, load_text_encoder
from wuerstchen_nodes.sockets import CHUNK_KEY, prompts_of
from wuerstchen_nodes.stage_c import StageCSampler
from wuerstchen_nodes.text import TextEncode

pytestmark = pytest.mark.usefixtures("fake_host")


class _Lengths(TextEncoder):
    """Stands where a text encoder does: its embeddings say what was encoded."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.for_stage = None

    def remarks(self, prompt: str, *_: Any, **__: Any) -> list[str]:
        return ["too long", "not known"] if "dogs" in prompt else []

    def encode(self, prompts: Sequence[str], *_: Any, **__: Any) -> torch.Tensor:
        return torch.tensor([len(prompt) for prompt in prompts], dtype=torch.float64)[:, None, None].expand(-1, 77, 4)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("text")
    tiny.save_text(folder)
    return Kept(load_text_encoder(folder))


def encoded(encoder: Any, text: str, *weights: str) -> torch.Tensor:
    ((made,),) = TextEncode().encode(encoder, text, *weights)
    return made[0]


def test_text_encode_shows_what_the_encoder_remarks(fake_host: FakeHost):
    for prompt in ("a red circle", "dogs"):
        TextEncode().encode(Kept(_Lengths()), prompt)  # pyright: ignore[reportArgumentType]
    assert fake_host.notices == ["", "too long\nnot known"]


def test_text_encode_gives_a_conditioning():
    (made,) = TextEncode().encode(Kept(_Lengths()), "a red circle")  # pyright: ignore[reportArgumentType]
    ((embedding, options),) = made
    assert embedding.shape == (1, 77, 4) and embedding.dtype == torch.float32
    assert embedding.unique().tolist() == [12.0]
    assert options["pooled_output"].shape == (1, 4)


def test_without_weights_brackets_are_letters_as_in_old_workflows(encoder):
    text = "a (red:1.3) {star|heart} // yes"
    literal = encoder.network.encode([text])
    assert torch.equal(encoded(encoder, text), literal) and torch.equal(encoded(encoder, text, "off"), literal)
    assert not torch.equal(encoded(encoder, text, "on"), literal)


def test_choices_that_come_through_a_link_are_drawn_from_the_text_and_shown(encoder, fake_host: FakeHost):
    text = "a {red|blue|green} star /* or a heart */"
    first = encoded(encoder, text, "on")
    assert torch.equal(encoded(encoder, text, "on"), first)
    candidates = [encoder.network.encode([f"a {colour} star "]) for colour in ("red", "blue", "green")]
    assert sum(torch.equal(first, each) for each in candidates) == 1
    assert fake_host.notices[0].startswith("Read as: a ") and "{" not in fake_host.notices[0]


def test_an_embedding_of_the_folder_is_loaded_and_covers_the_cache_key(encoder, fake_host: FakeHost):
    folder = fake_host.folder / "embeddings"
    folder.mkdir()
    save_file({"clip_g": torch.ones(2, 32)}, folder / "cat.safetensors")
    path = folder / "cat.safetensors"
    text = "a (embedding:cat, on a sofa:1.2)"
    assert TextEncode.source_files(None, text, "on") == [path]
    assert TextEncode.source_files(None, text, "off") == TextEncode.source_files(None, "a cat", "on") == []
    assert TextEncode.source_files(None, None, "on") == [path]  # the text is not known yet
    before, embedding = TextEncode.IS_CHANGED(text, "on"), encoded(encoder, text, "on")
    save_file({"clip_g": -torch.ones(2, 32)}, path)
    os.utime(path, (1, 1))
    assert TextEncode.IS_CHANGED(text, "on") != before
    assert not torch.equal(encoded(encoder, text, "on"), embedding)
    encoded(encoder, "embedding:dog", "on")
    assert "'dog' is not known" in fake_host.notices[-1] and "There are: cat." in fake_host.notices[-1]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..\\secret", "sub/../../secret"])
def test_a_name_that_leads_out_of_the_folder_is_not_known(fake_host: FakeHost, name: str):
    (fake_host.folder / "embeddings/sub").mkdir(parents=True)
    save_file({"clip_g": torch.ones(2, 32)}, fake_host.folder / "secret.safetensors")
    assert fake_host.find_embedding(name) is None


def test_prompts_of_other_lengths_are_sampled_in_one_call(encoder, monkeypatch):
    (long,) = TextEncode().encode(encoder, "a red star on a blue background and more " * 3, "on")
    (short,) = TextEncode().encode(encoder, "", "on")
    assert long[0][1][CHUNK_KEY] == 77
    text, without = prompts_of(long, short, "C")
    assert without is not None
    assert text.shape == without.shape == (1, 154, 32)
    assert torch.equal(without, encoder.network.encode([""]).repeat(1, 2, 1))
    network, calls = tiny.stage_c(), []
    predict = network.predict

    def counted(x: torch.Tensor, *more: Any) -> torch.Tensor:
        calls.append(len(x))
        return predict(x, *more)

    monkeypatch.setattr(network, "predict", counted)
    settings = {"seed": 1, "steps": 2, "schedule": "v2", "cfg": 4.0, "width": 128, "height": 128, "batch_size": 1}
    StageCSampler().sample(Kept(network), long, short, **settings)
    assert calls == [2, 2]


def test_literal_prompts_of_other_lengths_stay_as_they_are():
    (a,), (b,) = TextEncode().encode(Kept(_Lengths()), "a"), TextEncode().encode(Kept(_Lengths()), "b")  # pyright: ignore[reportArgumentType]
    b[0][0] = b[0][0][:, :5]
    text, without = prompts_of(a, b, "C")
    assert without is not None
    assert (text.shape[1], without.shape[1]) == (77, 5)
    assert prompts_of(a, None, "C")[1] is None


def test_names_of_embeddings_lack_their_suffix(fake_host: FakeHost):
    folder = fake_host.folder / "embeddings"
    folder.mkdir()
    for name in ("b.pt", "a.safetensors", "notes.txt"):
        (folder / name).touch()
    assert fake_host.embedding_names() == ["a", "b"]
    assert fake_host.find_embedding("a") == fake_host.find_embedding("a.safetensors") == Path(folder / "a.safetensors")
