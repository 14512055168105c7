"""Pictures of digits without Keras: warped as training warps them, and as PNG inside a page."""

import base64
import io

import numpy as np
from PIL import Image
from scipy import ndimage


def warped(images: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Return images uint8 (n, 28, 28) under warps (n, 8) of `warps.affine_warps`, as `augment.Warp` gives them.

    "grid-constant" is what Keras's "constant" means: beyond the edge there is paper, and it is interpolated with.
    """
    views = np.empty_like(images)
    for view, image, (a0, a1, a2, b0, b1, b2, *_) in zip(views, images, warps, strict=True):
        # SciPy counts (row, column) where the warps count (x, y).
        moved = ndimage.affine_transform(
            image.astype(np.float32), [[b1, b0], [a1, a0]], [b2, a2], order=1, mode="grid-constant"
        )
        view[:] = np.clip(np.rint(moved), 0, 255)
    return views


def data_uri(image: np.ndarray) -> str:
    """Return an image uint8 (h, w), 0 paper to 255 ink, as a data URI of a PNG with dark ink on white."""
    png = io.BytesIO()
    Image.fromarray(255 - image).save(png, format="PNG", optimize=True)
    return png_uri(png.getvalue())


def png_uri(png: bytes) -> str:
    """Return a PNG file's bytes as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
