import os
from pathlib import Path

import pytest

from support.attacks import within
from wuerstchen_core.errors import InputError, WuerstchenError
from wuerstchen_nodes.headless.errors import UsageError
from wuerstchen_nodes.headless.output_files import OutputFiles


def test_a_folder_is_numbered_as_comfyui_does_after_the_highest(tmp_path):
    files = OutputFiles(tmp_path)
    assert files.save(b"a", "heart") == tmp_path / "heart_00001_.png"
    (tmp_path / "heart_00041_.png").write_bytes(b"")
    (tmp_path / "hearty_00099_.png").write_bytes(b"")
    assert files.save(b"b", "heart") == tmp_path / "heart_00042_.png"
    assert files.save(b"c", "red/heart", suffix=".latent") == tmp_path / "red" / "heart_00001_.latent"
    assert (tmp_path / "heart_00001_.png").read_bytes() == b"a"


def test_a_name_is_one_line(tmp_path):
    assert OutputFiles(tmp_path).save(b"", "x\n/y\x1b[2J").relative_to(tmp_path) == Path("x_/y_[2J_00001_.png")


def test_a_long_name_is_refused_at_once(tmp_path):
    with within(5), pytest.raises(InputError, match="too long"):
        OutputFiles(tmp_path).save(b"", "x" * 20_000_000)


def test_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbered = OutputFiles("out/{prefix}/{index:03}-{node}.png")
    assert numbered.folder == Path("out")
    assert numbered.save(b"", "heart", node_id="12:3") == Path("out/heart/001-12-3.png")
    assert numbered.save(b"", "heart", node_id="12:3") == Path("out/heart/002-12-3.png")
    plain = OutputFiles("heart.png")
    assert plain.folder == Path()
    assert [plain.save(b"", "x").name for _ in range(3)] == ["heart.png", "heart_2.png", "heart_3.png"]
    assert plain.save(b"", "x", suffix=".latent").name == "heart.latent"


@pytest.mark.parametrize("out", ["a{colour}.png", "a{index.real}.png", "a{index:q}.png", "a{.png", "a{}.png", "x.jpg"])
def test_patterns_that_are_none(out):
    with pytest.raises(UsageError, match="--out is"):
        OutputFiles(out)


@pytest.mark.parametrize("prefix", ["../out", "a/../../out", "/etc/out", "a/\0"])
@pytest.mark.parametrize("out", ["here", "here/{prefix}-{index}.png"])
def test_nothing_is_written_outside_of_the_output_folder(tmp_path, monkeypatch, prefix, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, ValueError), match=r"leads out of|Cannot write|null"):
        OutputFiles(out).save(b"", prefix)
    assert list(tmp_path.rglob("*.png")) == []


def test_a_link_out_of_the_output_folder_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads out of"):
        OutputFiles(tmp_path / "out").save(b"", "away/x")


def test_the_check_finds_what_cannot_be_written_and_leaves_nothing(tmp_path):
    OutputFiles(tmp_path / "a" / "b").check()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "sub", Path("/proc/wuerstchen")):
        with pytest.raises(WuerstchenError, match="Cannot write to the output folder"):
            OutputFiles(folder).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
def test_the_check_heeds_permissions(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WuerstchenError, match="Permission denied"):
        OutputFiles(tmp_path / "a").check()
