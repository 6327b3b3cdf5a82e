"""Prompts as people type them: how they are read, and what a text encoder makes of them."""

import logging
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from support import tiny
from wuerstchen_core import CheckpointError, load_embedding, load_text_encoder
from wuerstchen_core.text.encoder import equally_long
from wuerstchen_core.text.prompts import Part, embedding_names, found_name, resolve_choices, weighted_parts

TOKENS = 77


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    tiny.save_text(folder)
    return load_text_encoder(folder)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red star", [("a red star", 1)]),
        ("a (red:1.3) star", [("a ", 1), ("red", 1.3), (" star", 1)]),
        ("((red))", [("red", 1.21)]),
        ("(a (b:0.5) c)", [("a ", 1.1), ("b", 0.5), (" c", 1.1)]),
        ("[small] red", [("small", 1 / 1.1), (" red", 1)]),
        ("[a (b:1.5)]", [("a ", 1 / 1.1), ("b", 1.5)]),
        (r"\(a\) \[b\]", [("(a) [b]", 1)]),
        (r"(a\):1.2)", [("a)", 1.2)]),
        ("(a:b:1.2)", [("a:b", 1.2)]),
        ("(a:)", [("a:", 1.1)]),
        ("(a:nan) (b:inf)", [("a:nan", 1.1), (" ", 1), ("b:inf", 1.1)]),
        ("(never closed", [("(never closed", 1)]),
        ("never opened)", [("never opened)", 1)]),
        ("", []),
    ],
)
def test_weights_are_read(text, parts):
    read = weighted_parts(text)
    assert [(part.text, pytest.approx(part.weight)) for part in read] == parts


def test_embeddings_are_found_in_a_prompt():
    text = "embedding:cat, on (embedding:sofa:1.2) not-embedding:this\nembedding:x/y"
    assert embedding_names(text) == ["cat,", "sofa", "x/y"]
    assert Part("", 1.2, "sofa") in weighted_parts(text)
    assert found_name("cat,", {"cat"}.__contains__) == ("cat", ",")
    assert found_name("cat.pt.", {"cat.pt"}.__contains__) == ("cat.pt", ".")
    assert found_name("dog", {"cat"}.__contains__) == (None, "")
    assert found_name("a..,", {"a", "a.."}.__contains__) == ("a..", ",")
    assert found_name("...", {""}.__contains__) == (None, "")


@given(st.text(alphabet="ab()[]:\\1. \n{}|/*"))
def test_any_text_can_be_read_and_no_letter_is_lost(text):
    read = "".join(part.text for part in weighted_parts(text))
    assert read.count("a") == text.count("a") and read.count("b") == text.count("b")
    assert resolve_choices(text, random.Random(text).choice) is not None


def test_deep_nesting_is_no_error():
    assert weighted_parts("(" * 3000 + "a" + ")" * 3000)[0].text.strip("()") == "a"


@pytest.mark.parametrize("prompt", ["a small red circle", "", "Ein blauer Stern!", r"a {b} \n", "a " * 30])
def test_a_short_prompt_without_weights_is_the_same_byte_for_byte(encoder, prompt):
    assert torch.equal(encoder.encode([prompt], weights=True), encoder.encode([prompt]))


def test_weights_move_a_token_away_from_the_empty_prompt(encoder):
    plain, empty = encoder.encode(["ab c"])[0], encoder.encode([""])[0]
    weighted = encoder.encode(["(ab:1.5) c"], weights=True)[0]
    expected = plain.clone()
    expected[1:3] = (plain[1:3] - empty[1:3]) * 1.5 + empty[1:3]
    assert tiny.relative_error(weighted, expected) < 1e-6
    assert torch.equal(encoder.encode(["(ab c:1)"], weights=True)[0], plain)


def test_long_prompts_become_chunks_and_short_ones_beside_them_are_filled_up(encoder):
    long = "x " * 100
    both = encoder.encode([long, "y"], weights=True)
    assert both.shape == (2, 2 * TOKENS, 32)
    assert tiny.relative_error(both[0, :TOKENS], encoder.encode(["x " * 75])[0]) < 1e-5
    assert torch.equal(both[1, TOKENS:], encoder.encode([""])[0])
    assert encoder.encode([long]).shape == (1, TOKENS, 32)  # literally, its end is cut


def test_two_prompts_are_made_equally_long():
    long, short = torch.randn(2, 154, 4), torch.randn(1, 77, 4)
    one, other = equally_long(long, short)
    assert torch.equal(one, long) and torch.equal(other, short.repeat(1, 2, 1))
    assert [each.shape[1] for each in equally_long(short, torch.randn(1, 231, 4))] == [231, 231]


def test_an_embedding_takes_the_place_of_a_word(encoder, tmp_path):
    table = encoder.model.embeddings.token_embedding.weight
    a, b = encoder.tokenizer.encode("ab")
    save_file({"clip_g": table[[a, b]].clone()}, tmp_path / "ab.safetensors")
    embeddings = {"ab": load_embedding(tmp_path / "ab.safetensors")}
    ours = encoder.encode(["c embedding:ab, d"], weights=True, embeddings=embeddings)
    assert tiny.relative_error(ours, encoder.encode(["c ab , d"])) < 1e-6
    assert torch.equal(encoder.encode(["c"]), encoder.encode(["c"], weights=True))  # nothing is left in place


def test_vectors_for_the_result_are_put_in_last(encoder, tmp_path):
    save_file({"clip_g": torch.zeros(2, 32), "clip_g_out": torch.ones(2, 32)}, tmp_path / "it.safetensors")
    embeddings = {"it": load_embedding(tmp_path / "it.safetensors")}
    hidden = encoder.encode(["embedding:it"], weights=True, embeddings=embeddings)[0]
    assert torch.equal(hidden[1:3], torch.ones(2, 32)) and not torch.equal(hidden[3], torch.ones(32))


def test_an_embedding_that_is_not_there_or_does_not_fit_is_named(encoder, tmp_path, caplog):
    save_file({"clip_h": torch.zeros(1, 20)}, tmp_path / "other.safetensors")
    embeddings = {"other": load_embedding(tmp_path / "other.safetensors")}
    with caplog.at_level(logging.WARNING):
        hidden = encoder.encode(["a embedding:none embedding:other"], weights=True, embeddings=embeddings)
    assert "'none' is not known, and it is left out. There are: other." in caplog.text
    assert "'other' has no vectors of 32 numbers" in caplog.text
    assert tiny.relative_error(hidden, encoder.encode(["a"])) < 1e-6


@pytest.mark.parametrize("tensors", [{"a": torch.zeros(1, 2, 3)}, {"a": torch.zeros(2, 3, dtype=torch.int32)}, {}])
def test_a_file_that_is_no_embedding_is_an_error(tmp_path, tensors):
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=r"bad\.safetensors.*expected the vectors of an embedding"):
        load_embedding(tmp_path / "bad.safetensors")


def test_cocktail_knows_both_spellings_and_names_other_words_without_their_weights():
    cocktail = load_text_encoder("cocktail", for_stage="C")
    assert cocktail.remarks("a (Grey:1.2) or gray star", weights=True)[0].startswith("The model does not know 'or'.")
    assert cocktail.remarks("a [grey] (star:1.3)", weights=True) == []
