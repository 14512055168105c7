"""Find and decode image files, and read labelled images from folders of them."""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from digits.console import BadInput

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MAX_PIXELS = 100_000_000
"""Of an image: 400 MB as RGBA, twice what a phone's camera makes."""
WORKING_SIDE = 1024
"""The longest side, in pixels, at which an image is kept, give or take a factor of two; MNIST's digits have 20."""


class NotADigitImage(BadInput):
    """This one image cannot be used; the message is a phrase that says why."""


def read_header(path: Path) -> tuple[tuple[int, int], list[str]]:
    """Return height and width of an image, upright, and in words what reading it as 8 bits RGB changes.

    Raises NotADigitImage where it cannot be read.
    """
    with _opened(path) as image:
        is_turned = image.getexif().get(0x0112, 1) > 4  # EXIF's orientation.
        changes = {
            "are animations: the first frame is read": _is_animated(image),
            "may be transparent: what is gets the image's colour, black or white": _is_transparent(image),
            "have 16 bits or more: each is scaled to 8 by its brightest pixel": _is_deep(image),
        }
        size = (image.width, image.height) if is_turned else (image.height, image.width)
        return size, [text for text, is_needed in changes.items() if is_needed]


def read_image(source: Path | bytes, *, long_side: int = WORKING_SIDE, first_frame: bool = False) -> np.ndarray:
    """Return an image file's pixels uint8 (height, width, 1 or 3), upright.

    A large image is reduced to less than twice `long_side`. Transparent pixels become the page: its own colour where
    most of the image is opaque, otherwise (a drawing on nothing) black or white, whichever differs more from what is
    drawn. Of an animation the first frame is read where `first_frame` allows that.

    Raises:
        NotADigitImage: if the file is not one image, or is damaged, too large or an animation.
    """
    with _opened(source) as image:
        if _is_animated(image) and not first_frame:
            raise NotADigitImage("an animation or a stack of images; expected one")
        image.draft("RGB", (long_side, long_side))  # A large JPEG is decoded at a fraction of its size.
        ImageOps.exif_transpose(image, in_place=True)
        return _pixels(image, long_side)


def _is_animated(image: Image.Image) -> bool:
    return getattr(image, "n_frames", 1) > 1 and image.format != "MPO"


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _is_transparent(image: Image.Image) -> bool:
    return "A" in image.mode or "transparency" in image.info


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image file; raise NotADigitImage for whatever is wrong with it, when it is decoded, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata; both are checked here.
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if image.width * image.height > MAX_PIXELS:
                raise NotADigitImage(f"{image.width:,}×{image.height:,} pixels; expected at most {MAX_PIXELS:,} in all")
            with image:
                yield image
    except NotADigitImage:
        raise
    except UnidentifiedImageError:
        raise NotADigitImage("not an image that Pillow can read; expected a PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise NotADigitImage(f"too many pixels; expected at most {MAX_PIXELS:,}") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise NotADigitImage((error.strerror or str(error)).lower()) from None
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files.
        raise NotADigitImage(f"damaged or cut short ({str(error) or type(error).__name__})") from None


def _pixels(image: Image.Image, long_side: int) -> np.ndarray:
    if _is_deep(image):
        image = _in_8_bits(image)
    factor = max(image.size) // long_side
    if factor > 1:
        if image.mode in ("P", "PA", "LA"):
            image = image.convert("RGBA")
        image = image.reduce(factor)
    if _is_transparent(image):
        image = _on_page(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., np.newaxis]
    return np.asarray(image.convert("RGB"))


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 or 32 bits in 8: the range that its brightest pixel needs, of those that are in use."""
    deep = np.asarray(image, np.float32)
    low, high = float(deep.min()), float(deep.max())
    if low >= 0:
        low, high = 0, next((limit for limit in (1, 255, 1023, 4095, 16383, 65535) if high <= limit), high)
    return Image.fromarray(((deep - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8))


def _on_page(image: Image.Image) -> Image.Image:
    """Return an RGBA image on a page of its own colour, or of black or white where most of it is transparent."""
    values = np.asarray(image)
    opaque = values[values[..., 3] > 127, :3]
    if not len(opaque):
        raise NotADigitImage("empty: wholly transparent")
    colour = np.median(opaque[:: max(1, len(opaque) // 1000)], axis=0)
    if len(opaque) < image.width * image.height / 2:
        colour = np.full(3, 0 if colour.mean() > 127 else 255)
    page = Image.new("RGBA", image.size, (*colour.astype(int).tolist(), 255))
    return Image.alpha_composite(page, image)


def gray(pixels: np.ndarray) -> np.ndarray:
    """Return pixels uint8 (h, w, 1 or 3) in grey (h, w), colours weighted by how bright the eye sees them (BT.601)."""
    return pixels[..., 0] if pixels.shape[2] == 1 else np.asarray(as_image(pixels).convert("L"))


def as_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels uint8 (h, w, 1 or 3) as a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return pixels uint8 (h, w, 1 or 3) in another size (height, width), bicubic and antialiased."""
    if pixels.shape[:2] == size:
        return pixels
    smooth = np.asarray(as_image(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
    return smooth.reshape(*size, pixels.shape[2])


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, folder by folder, numbers in names by value."""
    files = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        paths = [Path(root, name) for name in names if name[0] != "."]
        files += sorted((path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES), key=_name_order)
    return files


def _name_order(path: Path) -> list[tuple[int, str]]:
    """Return a key to sort names by, in which each second part is a number."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", path.name)]


def find_images(path: Path) -> list[Path]:
    """Return the image files in a folder and below it, or a file itself, whatever its name.

    Raises BadInput if there is no such file, or no image in the folder.
    """
    if not path.exists():
        hint = "; give a file of this machine: download it first" if ":/" in str(path) else ""
        raise BadInput(f"there is no such file{hint}")
    if not path.is_dir():
        return [path]
    if files := sorted(images_below(path)):
        return files
    raise BadInput(f"a folder without images ({', '.join(sorted(IMAGE_SUFFIXES))})")


def folder_label(path: Path, classes: Sequence[str]) -> str | None:
    """Return the class that a file's folder is named after (7/a.png), or None."""
    return path.parent.name if path.parent.name in classes else None


def name_label(path: Path, classes: Sequence[str]) -> str | None:
    """Return the class that a file's name ends in (a_7.png, a-7.png), or None."""
    ending = re.fullmatch(r".*[_-]([^_-]+)", path.stem)
    return ending[1] if ending and ending[1] in classes else None
