"""Text encoders and tokenizers that lie: one clear line when they are loaded, none later."""

import itertools
import json
import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from support.attacks import within
from support.hostile_checkpoints import RAW, refusal, save_text
from wuerstchen_core import load_embedding, load_text_encoder
from wuerstchen_core.errors import CheckpointError
from wuerstchen_core.text.prompts import found_name

PROMPT = "The hen, 3 Würste & 😀 (very:1.2) \0 \u200b " + "word " * 20


def loads_and_encodes(folder: Any) -> None:
    """Load a text encoder; where that is possible, it encodes, too."""
    encoder = load_text_encoder(folder)
    encoded = encoder.encode([PROMPT], weights=True)
    assert bool(encoded.isfinite().all()), "no finite numbers"
    encoder.encode(["", PROMPT])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tiny text encoder with its tokenizer."""
    save_text(tmp_path / "text")
    loads_and_encodes(tmp_path / "text")
    return tmp_path / "text"


JUNK: list[Any] = [None, True, 5, -1, 1.5, 10**30, 10**400, "x", "", [], {}, [[]], [None], {"a": None}, "9" * 10**5]
JUNK += [float("nan"), float("inf"), {"content": 5}, {"content": ""}, {}, {"content": {"content": {}}}, [1] * 1000]


@pytest.mark.parametrize("start", [0, *(pytest.param(start, marks=pytest.mark.long) for start in (1, 2, 3))])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_field_that_lies_is_refused_or_does_no_harm(file, start, folder, tried):
    content = json.loads((folder / file).read_text())
    for field in [*content, "words", "text_config", "auto_map"]:
        for value in JUNK[start::4]:
            (folder / file).write_text(json.dumps({**content, field: value}))
            refusal(loads_and_encodes, folder, may_load=True)
            tried(1)


SHAPES = [
    *({"num_hidden_layers": 1000}, {"hidden_size": 10**5}, {"vocab_size": 10**7}, {"intermediate_size": 10**5}),
    *({"num_attention_heads": 3}, {"num_attention_heads": 64}, {"max_position_embeddings": 2}, {"hidden_act": "relu"}),
    *({"max_position_embeddings": 10**5}, {"layer_norm_eps": 0}, {"layer_norm_eps": -1}, {"layer_norm_eps": 1e30}),
    *({"text_config": 5}, {"text_config": []}, {"hidden_size": 32.5}, {"vocab_size": 513}, {"num_hidden_layers": 1}),
]


@pytest.mark.parametrize("longest", [3, 4, 5, 9, 10, 76, 4096, 4097, 10**6])
def test_a_prompt_of_any_length_is_encoded_in_chunks_of_any_length(longest, folder, tried):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": longest}))
    with within():
        loads_and_encodes(folder)
    tried(1)


@pytest.mark.parametrize("more", SHAPES, ids=str)
def test_a_config_of_another_text_encoder_is_refused(more, folder, tried):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **more}))
    refusal(load_text_encoder, folder)
    tried(1)


def vocabularies(known: dict[str, int]) -> list[Any]:
    """Return vocabularies that lie."""
    changes: list[Any] = [-1, 10**9, 2**32, 2**63, 10**30, 1.5, "5", None, [], {}, True, 600, 0]
    without = [
        {token: number for token, number in known.items() if token != gone} for gone in ("<|endoftext|>", "e</w>")
    ]
    more = [{**known, "surplus": len(known)}, {**known, **{f"t{index}": 515 + index for index in range(10**5)}}]
    return [*({**known, "e": value} for value in changes), *without, *more, {}, {"a": 0}, [], None, 5, "x", [known]]


def test_a_vocabulary_that_lies_is_refused(folder, tried):
    known = json.loads((folder / "vocab.json").read_text())
    for vocabulary in vocabularies(known):
        harmless = isinstance(vocabulary, dict) and len(vocabulary) == len(known) - 1 and "<|endoftext|>" in vocabulary
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        refusal(loads_and_encodes, folder, may_load=harmless)
        tried(1)


MERGES = [
    b"h",
    b"h e l",
    b"h zz",
    b"zz e",
    b"h e\nh e",
    b"\xff\xfe",
    b"h  e",
    b"e h",
    b"#version\nh",
    b"h\te",
    b"\0 \0",
]
MERGES += [b"he he", b"h e\n" * 100_000, b"x" * 2**20, b"a b\n" * 2 + b"\xed\xa0\xbd e"]


def test_merges_that_lie_are_refused_or_do_no_harm(folder, tried):
    for content in MERGES:
        (folder / "merges.txt").write_bytes(content)
        refusal(loads_and_encodes, folder, may_load=True)
        tried(1)
    (folder / "merges.txt").unlink()
    refusal(loads_and_encodes, folder)
    os.mkfifo(folder / "merges.txt")
    refusal(loads_and_encodes, folder)
    tried(2)


def test_a_tokenizer_of_too_many_tokens_pairs_or_words_is_refused(folder, tried):
    known, settings = (json.loads((folder / f"{name}.json").read_text()) for name in ("vocab", "tokenizer_config"))
    merges = (folder / "merges.txt").read_bytes()
    many = {"words": [f"w{index}" for index in range(10_001)]}, {"words": ["w" * 101]}
    for file, content, said in (
        ("merges.txt", merges + b"a b\n" * 200_000, "merges.txt has 200,002 lines; expected at most 200,000"),
        ("merges.txt", merges + b"a " * 2**21, "expected two tokens"),
        ("vocab.json", json.dumps({**known, **{f"{index}_": index for index in range(200_000)}}), "200,000 values"),
        (
            "tokenizer_config.json",
            json.dumps({**settings, **many[0]}),
            "it lists 10,001 words; expected at most 10,000",
        ),
        ("tokenizer_config.json", json.dumps({**settings, **many[1]}), "has 101 characters; expected at most 100"),
    ):
        path = folder / file
        before = path.read_bytes()
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with within(10):
            assert said in refusal(load_text_encoder, folder)
        path.write_bytes(before)
        tried(1)
    (folder / "tokenizer.json").write_text(json.dumps(whole(known, more=[0] * 10**6)))
    assert "1,000,000 values" in refusal(load_text_encoder, folder)
    tokens = {f"{index}_": index for index in range(200_001)}
    for model, said in (
        ({"vocab": tokens, "merges": []}, "there are 200,001 tokens; expected at most 200,000"),
        ({"vocab": known, "merges": ["h e"] * 200_001}, "more than 200,000 pairs"),
    ):
        (folder / "tokenizer.json").write_text(json.dumps(whole(known, model=model)))
        assert said in refusal(load_text_encoder, folder)
    tried(3)


def test_words_that_a_model_does_not_know_are_looked_up_and_told_in_bounds(folder, tried):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    words = [
        "".join(letters) for letters in itertools.islice(itertools.product(string.ascii_lowercase, repeat=4), 10**4)
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "words": words}))
    encoder = load_text_encoder(folder)
    with within(5):
        (remark,) = encoder.remarks(" ".join(f"x{word}" for word in words)[:20_000])[1:]
    assert "and 3,314 more. It knows these words: aaaa, aaab" in remark and len(remark) < 5000
    tried(1)


class Listed(dict[str, Any]):
    """Embeddings, and how often their names were listed."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_embeddings_that_are_not_there_are_told_in_one_line_after_one_listing(folder, tried):
    encoder, there = load_text_encoder(folder), Listed({f"name{index}": None for index in range(3000)})
    prompt = " ".join(f"embedding:q{index}" for index in range(1200))
    (remark,) = encoder.remarks(prompt, weights=True, embeddings=there)
    assert remark.startswith("The embeddings 'q0', 'q1',") and "and 1,180 more are not known" in remark
    assert "name0, name1" in remark and remark.endswith("and 2,700 more.")
    assert there.times == 1
    tried(1)


def test_a_name_with_endless_punctuation_is_looked_for_a_few_times(tried):
    asked: list[str] = []

    def exists(name: str) -> bool:
        asked.append(name)
        return False

    assert found_name("x" + "," * 20_000, exists) == (None, "")
    assert asked == ["x,,,,", "x,,,", "x,,", "x,", "x"]
    assert found_name("x" + "," * 20_000, {"x"}.__contains__) == ("x", "," * 20_000)
    tried(1)


def whole(known: dict[str, int], **more: Any) -> dict[str, Any]:
    """Return the content of a tokenizer.json."""
    return {"added_tokens": [], "model": {"vocab": known, "merges": ["h e"]}, **more}


def test_a_whole_tokenizer_that_lies_is_refused(folder, tried):
    known = json.loads((folder / "vocab.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(whole(known)))
    loads_and_encodes(folder)
    models: list[Any] = [{"vocab": each, "merges": []} for each in vocabularies(known) if not _is_smaller(each, known)]
    models += [
        {"vocab": known, "merges": each} for each in ([5], [["h"]], [["h", "e", "l"]], [["h", 5]], ["h"], [["h", "zz"]])
    ]
    models += [
        {"vocab": known, "merges": each} for each in (None, 5, "h e", {}, {"h": "e"}, [None], [{}], [[["h"], "e"]])
    ]
    models += [
        None,
        [],
        5,
        {},
        {"vocab": known},
        {"merges": []},
        {"vocab": [["a", -1.5]], "merges": [], "type": "Unigram"},
    ]
    contents: list[Any] = [whole(known, model=model) for model in models]
    added: list[Any] = [5, "x", {}, [5], [{}], [{"content": "a"}], [{"id": 5}], [{"content": 5, "id": 5}], [None]]
    added += [[{"content": "new", "id": each}] for each in (-1, 10**9, 1.5, "5", None, 2**70, 5)]
    contents += [whole(known, added_tokens=each) for each in added]
    contents += [[], None, 5, "x", {}]
    for content in contents:
        (folder / "tokenizer.json").write_text(json.dumps(content))
        refusal(loads_and_encodes, folder)
        tried(1)


def _is_smaller(vocabulary: Any, known: dict[str, int]) -> bool:
    return isinstance(vocabulary, dict) and len(vocabulary) == len(known) - 1 and "<|endoftext|>" in vocabulary


@pytest.mark.parametrize("file", ["vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_file_of_a_tokenizer_that_is_no_object_is_refused(file, folder, tried):
    for content in RAW:
        (folder / file).write_bytes(content)
        refusal(load_text_encoder, folder)
        tried(1)
    for target in ("/dev/zero", "/dev/null", file):
        (folder / file).unlink()
        (folder / file).symlink_to(target)
        refusal(load_text_encoder, folder, may_load=True)  # as if it were not there
        tried(1)


def test_code_beside_a_tokenizer_is_never_run(folder, tmp_path, tried, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("tokenizer.py", "tokenization_x.py", "modeling_x.py", "__init__.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()\n")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for more in ({"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}, {"tokenizer_class": "os.system"}):
        more = {**settings, **more, "trust_remote_code": True, "chat_template": "{{ ''.__class__ }}"}
        (folder / "tokenizer_config.json").write_text(json.dumps(more))
        loads_and_encodes(folder)
        tried(1)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_text_encoder_of_no_numbers_says_so(value, folder, tried):
    state = load((folder / "model.safetensors").read_bytes())  # no view of the file, which is written anew
    for key in [key for key in state if "token_embedding" not in key][::5]:
        save_file({**state, key: torch.full_like(state[key], value)}, folder / "model.safetensors")
        message = refusal(loads_and_encodes, folder)
        assert "The text encoder of Stage C gave values that are NaN or infinite" in message
        assert f"its weight {key.removeprefix('text_model.')} holds such values" in message
        tried(1)


def test_a_textual_inversion_of_huge_numbers_is_told_of_when_it_is_used(folder, tmp_path, tried):
    save_file({"clip_g": torch.full((2, 32), 3e38)}, tmp_path / "word.safetensors")
    encoder = load_text_encoder(folder)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        encoder.encode(
            ["embedding:word"], weights=True, embeddings={"word": load_embedding(tmp_path / "word.safetensors")}
        )
    tried(1)
