"""Reading of pictures that may come from strangers, with Pillow."""

import warnings
from collections.abc import Callable
from io import SEEK_END, BytesIO
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from .picture_headers import check_headers
from .untrusted import MAX_TEXT_BYTES, open_file, size_text

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read. Pillow knows about 50 more, and starts other programs for some."""
MAX_BYTES = 512 * 2**20
"""Largest file of a picture. One of 8192x8192 pixels with 6 bytes each, not compressed, has 384 MiB."""
MAX_FRAMES = 1000
"""Most frames of a picture."""
Read = TypeVar("Read")
_LIMITS = RLock()
"""Held while Pillow's limit of texts is another one, since it is global."""


class TooLargeError(ValueError):
    """A picture has so many bytes, pixels or frames that it may be an attack."""


def read_picture(source: Path | bytes, most_side: int | None = None) -> "Image":
    """Read a picture, the first one of several frames, into memory, and turn it upright.

    PNGs may carry compressed texts that are together as large as a workflow may be; Pillow alone takes 1 MiB of each.

    Args:
        source: A file, or its content.
        most_side: Largest width and height in pixels; None for any.
    Returns:
        Image: In its own mode, with its texts and other facts in `info`.
    Raises:
        TooLargeError: It has more than `MAX_BYTES` or `PIL.Image.MAX_IMAGE_PIXELS` pixels, or a longer side.
        ValueError: It is damaged, or none of `FORMATS`.
        OSError: It cannot be opened, or is no regular file.
    """

    def read(picture: "Image") -> "Image":
        _check_side(picture, most_side)
        return _upright(picture)

    return _read(source, read)


def read_frames(source: Path | bytes, most_side: int | None = None) -> "list[Image]":
    """Read every frame of a picture as `read_picture` does. All of them together may have as many pixels as one.

    Of a photograph with others behind it, as some cameras write them, it reads the first, like ComfyUI.

    Args and errors as for `read_picture`; a TooLargeError, too, where it has more than `MAX_FRAMES` frames.
    """
    from PIL import Image, ImageSequence

    def read(picture: Image.Image) -> list[Image.Image]:
        frames: list[Image.Image] = []
        room = Image.MAX_IMAGE_PIXELS or float("inf")
        for frame in ImageSequence.Iterator(picture):
            _check_side(frame, most_side)
            room -= frame.width * frame.height
            if room < 0:
                raise TooLargeError(_too_large())
            if len(frames) == MAX_FRAMES:
                raise TooLargeError(f"it has too many frames; expected at most {MAX_FRAMES:,}")
            frames.append(_upright(frame))
            if picture.format == "MPO":  # a photograph, with others of the same moment behind it
                break
        return frames

    return _read(source, read)


def _read(source: Path | bytes, read: "Callable[[Image], Read]") -> Read:
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    with _LIMITS, BytesIO(source) if isinstance(source, bytes) else open_file(source) as file:
        usual = PngImagePlugin.MAX_TEXT_CHUNK
        try:
            if file.seek(0, SEEK_END) > MAX_BYTES:
                raise TooLargeError(f"it has more than {size_text(MAX_BYTES)}")
            file.seek(0)
            PngImagePlugin.MAX_TEXT_CHUNK = max(usual, MAX_TEXT_BYTES // max(1, check_headers(file)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for each damaged tag
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return read(Image.open(file, formats=FORMATS))
        except TooLargeError:
            raise
        except UnidentifiedImageError as error:  # its text has the name of a Python object
            raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise TooLargeError(_too_large()) from error
        except Exception as error:  # Pillow raises all kinds of errors at damaged files
            raise ValueError(str(error) or type(error).__name__) from error
        finally:
            PngImagePlugin.MAX_TEXT_CHUNK = usual


def _upright(picture: "Image") -> "Image":
    """Return a picture upright and in memory: itself, where there is one frame, since a copy takes as much again."""
    from PIL import ImageOps

    if getattr(picture, "is_animated", False):
        return ImageOps.exif_transpose(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _check_side(picture: "Image", most: int | None) -> None:
    if most is not None and max(picture.size) > most:
        raise TooLargeError(f"it has {picture.width} x {picture.height} pixels; expected at most {most} on a side")


def _too_large() -> str:
    from PIL import Image

    return f"it has too many pixels; expected at most {Image.MAX_IMAGE_PIXELS:,} in all"
