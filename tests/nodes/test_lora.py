"""Load LoRA and Merge Checkpoints through the node classes, without ComfyUI."""

import pytest
import torch
from safetensors.torch import save_file

from support import loras, tiny
from support.hosts import FakeHost, Kept
from support.loras import STYLES
from wuerstchen_core import apply_lora, load_lora, load_stage_c, load_text_encoder, save_stage_c
from wuerstchen_core.errors import CheckpointError, InputError, WeightsMissingError
from wuerstchen_nodes.checkpoints import CheckpointInterpolate, SaveStageC
from wuerstchen_nodes.compiling import CompileStageC
from wuerstchen_nodes.lazy import kept_of
from wuerstchen_nodes.loaders import LoadStageC
from wuerstchen_nodes.lora import LoadLora
from wuerstchen_nodes.merging import CheckpointMerge


@pytest.fixture
def loaded(fake_host: FakeHost):
    """Two checkpoints as Load Stage C gives them, with a LoRA beside them."""
    for seed in (0, 1):
        save_stage_c(tiny.stage_c(seed=seed), fake_host.folder / f"c{seed}")
    (fake_host.folder / "loras").mkdir()
    made = loras.pairs(tiny.stage_c().state_dict(), loras.attention_layers())
    save_file(STYLES["bare"][0](made), fake_host.folder / "loras" / "mine.safetensors")
    return [LoadStageC().load(f"c{seed}", "float32")[0] for seed in (0, 1)]


def weights_of(stage_c):
    return kept_of(stage_c).network.state_dict()


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in other)


def test_a_lora_is_in_the_weights(fake_host, loaded):
    assert "mine.safetensors" in LoadLora.INPUT_TYPES()["required"]["name"][0]
    changed, text = LoadLora().load(loaded[0], "mine.safetensors", 0.7)
    assert text is None
    expected = apply_lora(tiny.stage_c(), load_lora(fake_host.folder / "loras/mine.safetensors"), 0.7)
    assert same(weights_of(changed), expected.state_dict())
    assert same(weights_of(loaded[0]), tiny.stage_c().state_dict()), "the network it was made from is as it was"


def test_strength_0_passes_the_network_on(loaded):
    assert LoadLora().load(loaded[0], "mine.safetensors", 0.0) == (loaded[0], None)


def test_nothing_is_made_before_it_is_needed(loaded):
    changed, _ = LoadLora().load(loaded[0], "mine.safetensors", 0.7)
    (merged,) = CheckpointMerge().merge(changed, loaded[1], 1.0, 1.0)
    (mixed,) = CheckpointInterpolate().interpolate(0.5, merged, loaded[0])
    assert not any("kept" in vars(each) for each in (*loaded, changed, merged, mixed))
    kept_of(mixed)
    assert not any("kept" in vars(each) for each in (*loaded, changed, merged))


def test_a_compiled_network_follows_the_strength(loaded):
    found = []
    for strength in (0.2, 0.9):
        changed, _ = LoadLora().load(loaded[0], "mine.safetensors", strength)
        (fast,) = CompileStageC().compile(changed)
        assert kept_of(fast).compiled and kept_of(fast).network is kept_of(changed).network
        again, _ = LoadLora().load(fast, "mine.safetensors", 0.1)
        found.append(weights_of(again)["blocks.2.attention.to_q.weight"])
    assert not torch.equal(*found)


def test_what_is_saved_is_what_is_applied(fake_host, loaded):
    changed, _ = LoadLora().load(loaded[0], "mine.safetensors", -1.5)
    (path,) = SaveStageC().save(changed, "styled")["ui"]["text"]
    assert same(load_stage_c(path).state_dict(), weights_of(changed))


def test_a_text_encoder_with_it(fake_host, loaded):
    tiny.save_text(fake_host.folder / "text", width=32, seed=1)
    encoder = load_text_encoder(fake_host.folder / "text")
    state = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 32)}
    shape = dict(encoder.model.named_parameters())
    (width,) = {len(value) for key, value in shape.items() if key.endswith("layers.0.mlp.fc1.weight")}
    state["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] = torch.ones(width, 2)
    save_file(state, fake_host.folder / "loras" / "text.safetensors")
    before = encoder.encode(["a cat"])
    same_c, changed = LoadLora().load(loaded[0], "text.safetensors", 1.0, Kept(encoder), 0.5)
    assert same_c is loaded[0]
    assert not torch.equal(changed.network.encode(["a cat"]), before)
    assert torch.equal(encoder.encode(["a cat"]), before)
    assert not fake_host.notices[-1]
    LoadLora().load(loaded[0], "text.safetensors", 1.0)
    assert fake_host.notices[-1] == (
        "text.safetensors was trained on the text encoder, too: connect it here and to Text Encode."
    )


def test_what_is_not_there_or_does_not_fit(fake_host, loaded):
    with pytest.raises(WeightsMissingError, match=r"name is 'gone', which is not in the LoRA folders; expected one of"):
        LoadLora().load(loaded[0], "gone", 1.0)
    save_file({"x.lora_A.weight": torch.ones(1, 1)}, fake_host.folder / "loras" / "other.safetensors")
    with pytest.raises(CheckpointError, match="looks like no LoRA of Würstchen"):
        LoadLora().load(loaded[0], "other.safetensors", 1.0)


def test_a_changed_file_is_loaded_again(fake_host, loaded):
    path = fake_host.folder / "loras/mine.safetensors"
    assert LoadLora.source_files(None, "mine.safetensors", 1.0) == [path]
    before = LoadLora.IS_CHANGED(name="mine.safetensors", strength=1.0)
    path.write_bytes(path.read_bytes() + b" ")
    assert LoadLora.IS_CHANGED(name="mine.safetensors", strength=1.0) != before


def test_merges(fake_host, loaded):
    first, second = (tiny.stage_c(seed=seed).state_dict() for seed in (0, 1))
    (merged,) = CheckpointMerge().merge(loaded[0], loaded[1], 1.0, 3.0, blocks="out=0")
    found = weights_of(merged)
    assert torch.equal(found["projection.weight"], (first["projection.weight"] + second["projection.weight"] * 3) / 4)
    assert torch.equal(found["out.1.weight"], first["out.1.weight"])
    (added,) = CheckpointMerge().merge(loaded[0], loaded[1], 1.0, 0.5, loaded[0], mode="add difference")
    key = "cond_mapper.0.weight"
    assert torch.equal(weights_of(added)[key], first[key] + (second[key] - first[key]) * 0.5)
    with pytest.raises(InputError, match="expected 3 or more for 'add difference'"):
        CheckpointMerge().merge(loaded[0], loaded[1], 1.0, 1.0, mode="add difference")
