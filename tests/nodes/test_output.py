"""Names for finished files: always free, always inside the output folder."""

import os

import pytest

from wuerstchen_core.errors import InputError
from wuerstchen_nodes.output import numbered_path


def test_numbers_count_up_from_what_is_there(tmp_path):
    assert numbered_path(tmp_path, "mix") == tmp_path / "mix_00001_"
    (tmp_path / "mix_00001_").mkdir()
    (tmp_path / "mix_00002_").touch()
    assert numbered_path(tmp_path, "mix") == tmp_path / "mix_00003_"
    assert numbered_path(tmp_path, "other") == tmp_path / "other_00001_"


def test_slashes_make_subfolders(tmp_path):
    output = tmp_path / "output"
    assert numbered_path(output, "a\\b/mix") == output / "a" / "b" / "mix_00001_"
    assert (output / "a" / "b").is_dir()


ESCAPES = ["", "/", "/mix", "../mix", "a/../../mix", "..", "a/", "a\0"]
WINDOWS_ESCAPES = ["..\\mix", "C:\\mix", "C:mix", "\\\\host\\share\\mix"]


@pytest.mark.parametrize("prefix", ESCAPES + WINDOWS_ESCAPES)
def test_a_prefix_that_is_no_name_inside_the_folder_is_refused(tmp_path, prefix):
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(InputError, match="filename_prefix is"):
        numbered_path(output, prefix)
    assert sorted(tmp_path.rglob("*")) == [output]


def test_a_link_that_leads_out_is_refused(tmp_path):
    output, outside = tmp_path / "output", tmp_path / "outside"
    output.mkdir()
    outside.mkdir()
    (output / "link").symlink_to(outside, target_is_directory=True)
    with pytest.raises(InputError, match="outside of the output folder"):
        numbered_path(output, "link/mix")
    assert list(outside.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_one_clear_error(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match="Cannot write to"):
        numbered_path(tmp_path, "taken/mix")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_no_permission_is_one_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Cannot write to"):
        numbered_path(tmp_path, "sub/mix")
