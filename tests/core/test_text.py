"""Compare the text encoder with transformers as diffusers uses it, and test its errors."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from support import tiny
from wuerstchen_core import CheckpointError, InputError, WeightsMissingError, load_text_encoder
from wuerstchen_core.text.building import CLIP_TOKENIZER

LONG = "a " * 75 + "and all of this is too much"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    tiny.save_text(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return load_text_encoder(folder)


def _reference(folder: Path, prompts: list[str]) -> torch.Tensor:
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    tokens = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state


@pytest.mark.parametrize("stage", ["C", "B"])
def test_words_that_cocktail_was_not_taught_are_named(stage, caplog):
    encoder = load_text_encoder("cocktail", for_stage=stage)
    assert {"red", "heart", "background", "the"} <= set(encoder.words)
    assert encoder.unknown_words("A red Heart, on a white background.") == []
    with caplog.at_level(logging.WARNING):
        encoder.encode(["a cat and a red cat, 2 dogs"])
    assert len(caplog.records) == 1
    assert "does not know 'cat', 'and', 'dogs'. It knows these words: a, an, at" in caplog.text


def test_other_encoders_name_no_words(encoder):
    assert (encoder.words, encoder.unknown_words("a cat")) == ([], [])


@pytest.mark.parametrize("prompts", [["a red circle"], ["", "Ein blauer Stern!", "a " * 30], [LONG]])
def test_hidden_states_are_those_of_transformers(encoder, folder, prompts):
    ours, reference = encoder.encode(prompts), _reference(folder, prompts)
    assert ours.shape == (len(prompts), 77, 32) == (len(prompts), encoder.max_tokens, encoder.dim)
    assert ours.dtype == torch.float32
    assert not ours.requires_grad
    assert torch.equal(ours, reference)


def test_a_prompt_is_encoded_the_same_alone_and_with_others(encoder):
    together = encoder.encode(["one", "another prompt", ""])
    alone = torch.cat([encoder.encode([prompt]) for prompt in ("one", "another prompt", "")])
    assert tiny.relative_error(together, alone) < 1e-6


def test_too_long_a_prompt_says_what_was_cut(encoder, caplog):
    assert encoder.overflow("a red circle") == ""
    assert encoder.overflow("a " * 75) == ""
    assert encoder.overflow("a " * 75 + "b") == "b"
    removed = encoder.overflow(LONG)
    assert removed.replace(" ", "") == "andallofthisistoomuch"
    with caplog.at_level(logging.WARNING):
        cut = encoder.encode([LONG])
    assert [record.name for record in caplog.records] == ["wuerstchen_core.text"]
    assert "longer than 77 tokens" in caplog.text
    assert repr(removed) in caplog.text
    assert torch.equal(cut, encoder.encode(["a " * 75]))


def test_a_prompt_that_fits_is_silent(encoder, caplog):
    with caplog.at_level(logging.DEBUG):
        encoder.encode(["a red circle", ""])
    assert not caplog.records


@pytest.mark.parametrize("prompts", [[], "a bare string", [None], ["fine", 3], None])
def test_prompts_of_the_wrong_kind(encoder, prompts):
    with pytest.raises(InputError, match="expected a list of one or more strings"):
        encoder.encode(prompts)


def test_loading_is_silent(folder, capfd, caplog):
    with caplog.at_level(logging.INFO):
        load_text_encoder(folder)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_loads_in_eval_mode_and_float32_from_half_precision(folder, tmp_path):
    tiny.save_text(tmp_path)
    file = tmp_path / "text_encoder" / "model.safetensors"
    save_file({key: value.half() for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    loaded = load_text_encoder(tmp_path)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert tiny.relative_error(loaded.encode(["x"]), load_text_encoder(folder).encode(["x"])) < 1e-2
    half = load_text_encoder(tmp_path, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert half.encode(["x"]).dtype == torch.float32


@pytest.mark.parametrize("published_keys", [True, False])
def test_either_key_style_of_transformers(folder, tmp_path, published_keys):
    tiny.save_text(tmp_path, published_keys=published_keys)
    assert torch.equal(load_text_encoder(tmp_path).encode(["x"]), load_text_encoder(folder).encode(["x"]))


def test_folder_of_the_encoder_itself(folder, tmp_path):
    expected = load_text_encoder(folder).encode(["x"])
    assert torch.equal(load_text_encoder(folder / "text_encoder").encode(["x"]), expected), "tokenizer beside it"
    tiny.save_text(tmp_path)
    for file in (tmp_path / "tokenizer").iterdir():
        file.rename(tmp_path / "text_encoder" / file.name)
    assert torch.equal(load_text_encoder(tmp_path / "text_encoder").encode(["x"]), expected), "tokenizer within"


def test_folder_that_is_no_text_encoder(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"is no text encoder: expected a folder with model.safetensors"):
        load_text_encoder(tmp_path)
    with pytest.raises(InputError, match="for_stage is 'A'; expected 'C' or 'B'"):
        load_text_encoder(tmp_path, for_stage="A")  # pyright: ignore[reportArgumentType]


def test_tokenizer_is_missing(tmp_path):
    tiny.save_text(tmp_path)
    (tmp_path / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(WeightsMissingError, match="has no tokenizer"):
        load_text_encoder(tmp_path)


PROMPTS = ["a cat", "", "Grüße, 東京! It's 3.14 <tag>", "x" * 400]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random CLIP text model with CLIP's vocabulary and heads of the published width, and its embeddings."""
    folder = tmp_path_factory.mktemp("clip") / "text_encoder"
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu"
    )
    CLIPTextModel(config).eval().save_pretrained(folder)
    return folder, load_text_encoder(folder).encode(PROMPTS)


def test_a_folder_without_a_tokenizer_gets_that_of_clip(clip):
    folder, embeddings = clip
    tokenizer = CLIPTokenizer.from_pretrained(CLIP_TOKENIZER)
    assert tokenizer("A photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    model = CLIPTextModel.from_pretrained(folder).eval()
    tokens = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    assert tokens.input_ids[1].tolist() == [49406] + [49407] * 76, "padded with the end, as the published tokenizers do"
    with torch.no_grad():
        expected = model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    assert torch.equal(embeddings, expected)


@pytest.mark.parametrize("prefix", ["", "text_model.", "transformer.text_model."])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_one_file_is_enough(clip, tmp_path, prefix, suffix):
    folder, embeddings = clip
    plain = {key.removeprefix("text_model."): value for key, value in load_file(folder / "model.safetensors").items()}
    state = {prefix + key: value for key, value in plain.items()} | {"text_projection.weight": torch.zeros(2, 2)}
    file = tmp_path / f"clip_g.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    (tmp_path / "config.json").write_text('{"hidden_size": 7}')  # of another network, perhaps
    assert torch.equal(load_text_encoder(file).encode(PROMPTS), embeddings)


@pytest.mark.parametrize("variant", [None, "fp16", "mine"])
def test_shards_and_variants(clip, tmp_path, variant):
    folder, embeddings = clip
    model = CLIPTextModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "text_encoder", max_shard_size="10MB", variant=variant)
    assert len(list((tmp_path / "text_encoder").glob("*-of-*"))) > 1
    assert torch.equal(load_text_encoder(tmp_path).encode(PROMPTS), embeddings)
    whole = tmp_path / "whole"
    model.save_pretrained(whole, variant=variant)
    assert torch.equal(load_text_encoder(whole).encode(PROMPTS), embeddings)


def test_a_shard_is_missing(clip, tmp_path):
    CLIPTextModel.from_pretrained(clip[0]).save_pretrained(tmp_path, max_shard_size="10MB")
    next(tmp_path.glob("*-of-*")).unlink()
    with pytest.raises(WeightsMissingError, match=r"names the shard 'model-.*Download the rest"):
        load_text_encoder(tmp_path)


def _edit_weights(folder: Path, edit) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    state = load_file(file)
    edit(state)
    save_file(state, file, metadata={"format": "pt"})


def _drop(state):
    del state["text_model.final_layer_norm.weight"]


def _add(state):
    state["text_model.encoder.layers.9.extra"] = torch.ones(1)


def _reshape(state):
    state["text_model.final_layer_norm.weight"] = torch.ones(5)


@pytest.mark.parametrize("edit", [_drop, _add, _reshape], ids=["missing", "unexpected", "mismatched"])
def test_weights_are_checked_strictly(tmp_path, edit):
    tiny.save_text(tmp_path)
    _edit_weights(tmp_path, edit)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_text_encoder(tmp_path)


def test_projection_and_position_ids_are_harmless(folder, tmp_path):
    tiny.save_text(tmp_path)
    _edit_weights(
        tmp_path,
        lambda state: state.update(
            {"text_projection.weight": torch.ones(32, 32), "text_model.embeddings.position_ids": torch.arange(77)[None]}
        ),
    )
    assert torch.equal(load_text_encoder(tmp_path).encode(["x"]), load_text_encoder(folder).encode(["x"]))


@pytest.mark.parametrize(
    "file, content",
    [
        ("text_encoder/model.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"),
        ("text_encoder/model.safetensors", b"<html>"),
        ("text_encoder/config.json", b"{oops"),
        ("text_encoder/config.json", b'{"hidden_size": "wide"}'),
        ("tokenizer/vocab.json", b"{oops"),
    ],
)
def test_damaged_files(tmp_path, file, content):
    tiny.save_text(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"[Dd]ownload"):
        load_text_encoder(tmp_path)


def test_tokenizer_of_another_encoder(tmp_path):
    tiny.save_text(tmp_path)
    path = tmp_path / "tokenizer" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    path.write_text(json.dumps({**vocabulary, "surplus": len(vocabulary)}))
    with pytest.raises(CheckpointError, match=r"has 515 tokens, the text encoder in .* 514"):
        load_text_encoder(tmp_path)
