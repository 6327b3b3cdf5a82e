"""Test the reading of captioned pictures, and how they are sorted by size and encoded."""

import numpy as np
import pytest
import torch
from PIL import Image

from wuerstchen_core import InputError
from wuerstchen_core.training.captions import captioned_pictures
from wuerstchen_core.training.encoded import Cache, bucket_for, buckets, draw, fitted, read


def picture(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 60)).save(path)


def test_a_folder_with_a_text_beside_each_picture(tmp_path):
    for name in ("b.png", "sub/a.jpg", "alone.png"):
        picture(tmp_path / name)
    (tmp_path / "b.txt").write_text("\ufeffa cat \n", encoding="utf-8")
    (tmp_path / "sub/a.txt").write_text("", encoding="utf-8")
    assert captioned_pictures(tmp_path) == [(tmp_path / "b.png", "a cat"), (tmp_path / "sub/a.jpg", "")]


@pytest.mark.parametrize("place", ["metadata.jsonl", "captions.jsonl"])
def test_a_jsonl_table(tmp_path, place):
    picture(tmp_path / "1.png")
    (tmp_path / place).write_text('{"file_name": "1.png", "text": "a cat"}\n\n{"image": "1.png", "caption": "a dog"}\n')
    source = tmp_path if place == "metadata.jsonl" else tmp_path / place
    assert [each.caption for each in captioned_pictures(source)] == ["a cat", "a dog"]


def test_a_csv_table(tmp_path):
    picture(tmp_path / "1.png")
    (tmp_path / "table.csv").write_text('file_name,caption\n1.png,"a cat, asleep"\n')
    assert captioned_pictures(tmp_path / "table.csv") == [(tmp_path / "1.png", "a cat, asleep")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.jsonl", '{"file_name": "1.png"', "line 1 is .*; expected a JSON object"),
        ("t.jsonl", "[" * 5000, "line 1 is .*; expected a JSON object"),
        ("t.jsonl", '"text"', "line 1 is .*; expected a JSON object"),
        ("t.jsonl", '\n{"text": "a"}', "line 2 has no file_name; expected a column of that name, or one of picture"),
        ("t.csv", "file_name,capt\n1.png,a\n", "line 2 has no caption.*It has: 'file_name', 'capt'"),
        ("t.csv", "file_name,caption\n2.png,a\n", "line 2 names '2.png', and .* is not there"),
        ("t.csv", "", "holds no captioned image"),
        ("t.txt", "a", "is not a folder or a table"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, name, text, message):
    picture(tmp_path / "1.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        captioned_pictures(tmp_path / name)


def test_folders_without_pictures_and_texts_of_another_encoding(tmp_path):
    with pytest.raises(InputError, match="holds no captioned image; expected pictures"):
        captioned_pictures(tmp_path)
    with pytest.raises(InputError, match="does not exist; expected a folder of pictures"):
        captioned_pictures(tmp_path / "nowhere")
    picture(tmp_path / "1.png")
    (tmp_path / "1.txt").write_bytes("süß".encode("latin-1"))
    with pytest.raises(InputError, match=r"1.txt is not UTF-8 text \(byte 1\)"):
        captioned_pictures(tmp_path)


def test_buckets_are_of_one_area_in_steps_of_128():
    for resolution in (256, 512, 1024, 1500):
        sizes = buckets(resolution)
        assert all(side % 128 == 0 for size in sizes for side in size)
        assert all(0.6 < width * height / resolution**2 < 1.4 for width, height in sizes), sizes
        assert all((height, width) in sizes for width, height in sizes)
        assert len(sizes) == len({width / height for width, height in sizes})
    assert bucket_for(4000, 3000, buckets(1024)) == (1152, 896)
    assert bucket_for(100, 100, buckets(1024)) == (1024, 1024)


def test_pictures_are_upright_covered_and_cropped(tmp_path):
    turned = Image.new("RGB", (300, 100))
    turned.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert fitted(tmp_path / "turned.png", buckets(256)).shape == (1, 3, 384, 128)
    Image.new("LA", (10, 10)).save(tmp_path / "gray.png")
    pixels = fitted(tmp_path / "gray.png", buckets(256))
    assert pixels.shape == (1, 3, 256, 256) and pixels.dtype == torch.float32


def test_the_cache_encodes_each_content_once(tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        picture(tmp_path / name, (40, 40) if name != "3.png" else (90, 30))
        (tmp_path / name).with_suffix(".txt").write_text(name)
    given, sizes, seen = captioned_pictures(tmp_path), buckets(256), []

    def encode(pixels):
        seen.append(pixels.shape)
        height, width = pixels.shape[2:]
        return pixels.new_ones(1, 16, height * 3 // 128, width * 3 // 128) * len(seen)

    cache = Cache(tmp_path / "cache", "encoder", "text")
    examples = cache.encode_pictures(given, sizes, encode)
    assert len(seen) == 2, "two of the pictures are the same"
    assert [example.size for example in examples] == [(256, 256), (256, 256), (384, 128)]
    assert float(read(examples[2].picture).mean()) == 2
    assert cache.encode_pictures(given, sizes, encode) == examples and len(seen) == 2
    Cache(tmp_path / "cache", "another", "text").encode_pictures(given, sizes, encode)
    assert len(seen) == 4
    cache.encode_texts(["a", "b", "a"], lambda texts: torch.full((1, 3, 4), float(len(texts[0]))))
    assert read(cache.text("a")).shape == (3, 4)
    rng = np.random.default_rng(0)
    assert all(len({example.size for example in draw(examples, rng, 3)}) == 1 for _ in range(20))
