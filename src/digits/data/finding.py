"""Find the digit on a photograph, scan or drawing: its sheet of paper, the page's light, and the ink."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.data.image_files import NotADigitImage, as_image, gray
from digits.data.image_form import box_of, edge_of

FINDING_SIDE, PAGE_SIDE = 160, 64
"""The longest side, in pixels, at which the digit is looked for (a stroke of a digit that fills a tenth of the side is
two wide), and the page is measured (its light changes slowly)."""
INK = 0.35
"""Pixels of this share of the ink's level, 0-1, are ink: thin strokes are fainter than their pen."""
SPECK, PIECE = 0.04, 0.2
"""Ink of a smaller share of the main piece's is dust; of a smaller one than the second it is part of the digit only
near the main piece: a gap in a stroke, but not the date of a photograph."""
TOUCHING = np.ones((3, 3))
"""Pixels that touch at a corner belong together."""


@dataclass(frozen=True)
class FoundDigit:
    """Where the digit of an image is."""

    pixels: np.ndarray
    """The channel in which the ink differs most from the page, uint8 (h, w, 1), of the sheet or with a margin."""
    is_light: bool  # Whether the ink is lighter than the page.
    page: np.ndarray
    """The page's brightness float32 (h, w) where the image is reduced to FINDING_SIDE, inverted if the ink is light."""
    ink: np.ndarray  # How much darker than the page each pixel is, likewise, in 0-1.
    level: float  # How strong the ink is, 0-1.
    mask: np.ndarray  # Where the digit may be, bool (h, w), likewise.
    notes: tuple[str, ...]
    touches_edge: bool

    def strokes(self) -> np.ndarray:
        """Return the ink float32 (h, w) in 0-1, cut to its box, in the detail that the image has."""
        top, bottom, left, right = box_of(self.mask)
        ink, mask, scale = self.ink, self.mask, len(self.pixels) / len(self.ink)
        if scale > 1:
            rows, columns = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
            first_row, last_row, first_column, last_column = (
                round(end * scale) for end in (rows.start, rows.stop, columns.start, columns.stop)
            )
            detail = _shrunk(self.pixels[first_row:last_row, first_column:last_column])[0]
            page, mask = (resize(values[rows, columns], detail.shape) for values in (self.page, self.mask))
            ink, mask = _ink(255 - detail if self.is_light else detail, page), mask > 0.1
            inked = mask & (ink > INK * self.level)
            if not inked.any():
                raise NotADigitImage("empty: nothing stands out from the page")
            top, bottom, left, right = box_of(inked)
        # From a fifth of the level, paper, to seven tenths, ink: the blurred edge between them keeps its grey.
        strokes = ((ink / self.level - 0.2) / 0.5).clip(0, 1) * mask
        return strokes[top:bottom, left:right]


def find_digit(pixels: np.ndarray) -> FoundDigit:
    """Return where the digit is in pixels uint8 (h, w, 1 or 3).

    Raises:
        NotADigitImage: if there is nothing on the page.
    """
    for sheet in _sheets(pixels):
        with contextlib.suppress(NotADigitImage):
            digit = _find(sheet)
            top, bottom, left, right = box_of(digit.mask)
            # What one writes on a sheet lies within it, and is a fifth of it or more.
            if not digit.touches_edge and max(bottom - top, right - left) > 0.2 * max(digit.mask.shape):
                return digit
    try:
        digit = _find(pixels)
    except NotADigitImage:
        if (wider := _with_margin(pixels)) is None:
            raise
        return _find(wider)
    if not digit.touches_edge or (wider := _with_margin(pixels, most_spread=16)) is None:
        return digit
    return replace(_find(wider), touches_edge=True)


def _sheets(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pixels cut to each sheet of paper, label or sticky note that lies on something of another brightness."""
    planes = _shrunk(pixels)
    plane = ndimage.gaussian_filter(planes[planes.std(axis=(1, 2)).argmax()], 1)  # The grain of wood is no edge.
    is_bright = plane > _threshold(plane.astype(np.uint8))
    for tone in (is_bright, ~is_bright):
        labelled, _ = ndimage.label(tone)
        for number in 1 + np.argsort(-np.bincount(labelled.ravel())[1:])[:2]:
            paper = labelled == number
            sheet = _filled(paper)
            if 0.08 <= sheet.mean() <= 0.9 and _rectangularity(sheet) > 0.9 and _has_sharp_edge(sheet, plane):
                yield _cut(pixels, sheet, paper)


def _filled(mask: np.ndarray) -> np.ndarray:
    """Return a mask with its holes filled; ten times as fast as SciPy's binary_fill_holes."""
    labelled, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return (labelled != labelled[0, 0])[1:-1, 1:-1]


def _rectangularity(mask: np.ndarray) -> float:
    """Return the share that a mask fills of the smallest rectangle round it, however turned; 0.79 for an ellipse."""
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    angles = np.radians(np.arange(0, 180, 3))
    lengths = np.ptp(points @ np.stack([np.cos(angles), np.sin(angles)]), axis=0) + 1
    return mask.sum() / (lengths[:30] * lengths[30:]).min()


def _has_sharp_edge(sheet: np.ndarray, plane: np.ndarray) -> bool:
    """Return whether the brightness changes by a third within six pixels at a sheet's edge; a shadow's does not."""
    distances = ndimage.distance_transform_edt(sheet), ndimage.distance_transform_edt(~sheet)
    rims = [(distance > 2) & (distance <= 4) for distance in distances]
    if not all(rim.any() for rim in rims):
        return False
    low, high = sorted(float(np.median(plane[rim])) for rim in rims)
    return low < 0.65 * high


def _cut(pixels: np.ndarray, sheet: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Return pixels cut to a sheet bool (h, w), what is beside it in the colour of its paper."""
    inner = ndimage.binary_erosion(sheet, iterations=3, border_value=1)
    is_inner, is_paper = (resize(mask.astype(np.float32), pixels.shape[:2]) > 0.5 for mask in (inner, paper & inner))
    if not is_paper.any():
        return pixels[:1, :1]
    top, bottom, left, right = box_of(is_inner)
    paper_colour = np.median(pixels[is_paper], axis=0).astype(np.uint8)
    return np.where(is_inner[..., np.newaxis], pixels, paper_colour)[top:bottom, left:right]


def _with_margin(pixels: np.ndarray, most_spread: float = 255) -> np.ndarray | None:
    """Return pixels with a margin of the page's colour on all sides.

    The page's light is measured beside the ink: a digit that was cut at its ink, or fills the image, has none there.
    None where ink and page differ little, or the page's brightness at the edge by more than `most_spread` of 255.
    """
    values = gray(pixels)
    step = max(1, max(values.shape) // FINDING_SIDE)
    sample = values[::step, ::step]
    threshold = _threshold(sample)
    dark, light = sample[sample <= threshold], sample[sample > threshold]
    if not dark.size or not light.size or light.mean() - dark.mean() < 50:
        return None
    is_bright = edge_of(values) > threshold
    page = edge_of(pixels)[is_bright == (is_bright.mean() > 0.5)]
    if np.ptp(np.percentile(page.mean(axis=1), [10, 90])) > most_spread:
        return None
    reach = max(values.shape) // 4
    height, width = (length + 2 * reach for length in values.shape)
    wider = np.full((height, width, pixels.shape[2]), np.median(page, axis=0).astype(np.uint8))
    wider[reach : height - reach, reach : width - reach] = pixels
    return wider


def _threshold(values: np.ndarray) -> int:
    """Return the brightness that separates two groups of pixels uint8 best (Otsu 1979)."""
    counts = np.bincount(values.ravel(), minlength=256)
    below, total = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    difference = total / np.maximum(below, 1) - (total[-1] - total) / np.maximum(above, 1)
    return int((below * above * difference**2).argmax())


def _find(pixels: np.ndarray) -> FoundDigit:
    """Return where the digit is in pixels uint8 (h, w, 1 or 3), all of which may be the page."""
    planes = _shrunk(pixels)
    channel = int(planes.std(axis=(1, 2)).argmax())
    is_light = _ink_is_light(planes[channel])
    dark = 255 - planes[channel] if is_light else planes[channel]
    page = _page(dark)
    ink = _ink(dark, page)
    level = _ink_level(ink)
    mask, notes = _digit_mask(ink, level)
    touches_edge = bool(edge_of(mask).any())
    # A pixel more all round, for strokes' faint edges, where a pixel is not a whole stroke.
    mask = ndimage.maximum_filter(mask, 3) if min(ink.shape) > 40 else mask
    return FoundDigit(pixels[..., channel, np.newaxis], is_light, page, ink, level, mask, notes, touches_edge)


def _ink(pixels: np.ndarray, page: np.ndarray) -> np.ndarray:
    """Return how much darker than the page each pixel is, in shares of the page: float32 (h, w) in 0-1."""
    if min(pixels.shape) > 100:  # Against noise: strokes of a digit of this size are several pixels wide.
        pixels = ndimage.uniform_filter(pixels, 3, mode="nearest")
    return ((page - pixels) / np.maximum(page, 32)).clip(0, 1)


def _ink_is_light(gray: np.ndarray) -> bool:
    """Return whether the largest difference from a smooth page is towards light.

    The page is the quadratic surface nearest to most pixels (least absolute differences, by reweighting).
    """
    values = resize(gray, (32, 32)).reshape(-1)
    y, x = np.mgrid[-1:1:32j, -1:1:32j].astype(np.float32).reshape(2, -1)
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y])
    difference = values - np.median(values)
    for _ in range(8):
        weighted = terms / (abs(difference) + 2)
        difference = values - np.linalg.solve(weighted @ terms.T, weighted @ values) @ terms
    return bool(difference.max() > -difference.min())


def _page(gray: np.ndarray) -> np.ndarray:
    """Return the brightness float32 (h, w) of the page under dark ink: a closing wider than any stroke."""
    size = [max(1, round(length * min(1, PAGE_SIDE / max(gray.shape)))) for length in gray.shape]
    reach = max(3, round(0.35 * min(size)))
    wide = np.pad(resize(gray, size), reach, "edge")  # Or the dark side of a gradient would be brightened.
    closed = ndimage.grey_closing(wide, (reach, reach))[reach:-reach, reach:-reach]
    return resize(ndimage.gaussian_filter(closed, 1, mode="nearest"), gray.shape)


def _ink_level(ink: np.ndarray) -> float:
    """Return how strong the ink is, 0-1; NotADigitImage where nothing stands out from the page."""
    smooth = ndimage.uniform_filter(ink, 3) if min(ink.shape) >= 16 else ink
    peak = float(smooth.max())
    some = smooth[::2, ::2]
    noise = 1.5 * float(np.median(abs(some - np.median(some))))
    if peak < max(0.1, 6 * noise):
        raise NotADigitImage("empty: nothing stands out from the page")
    return float(np.median(smooth[smooth >= 0.5 * peak]))


@dataclass(frozen=True)
class _Blots:
    """Connected pieces of ink: their numbers in `labelled` int (h, w), their boxes, and the sums of their ink."""

    labelled: np.ndarray
    numbers: np.ndarray
    boxes: np.ndarray
    """The first row, the row after the last, the first column and the column after the last: int (n, 4)."""
    weights: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, ink: np.ndarray) -> "_Blots":
        labelled, count = ndimage.label(mask, TOUCHING)
        found = ndimage.find_objects(labelled)
        boxes = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in found]
        weights = np.bincount(labelled.ravel(), ink.ravel(), count + 1)[1:]
        return cls(labelled, np.arange(1, count + 1), np.array(boxes), weights)

    def where(self, chosen: np.ndarray) -> "_Blots":
        return _Blots(self.labelled, self.numbers[chosen], self.boxes[chosen], self.weights[chosen])

    @property
    def sizes(self) -> np.ndarray:
        """Their heights and widths, int (n, 2)."""
        return self.boxes[:, 1::2] - self.boxes[:, ::2]


def _digit_mask(ink: np.ndarray, level: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return where the digit is, bool (h, w), without frames, page edges and specks, and notes on what is beside it."""
    mask = ink > INK * level
    blots = _Blots.of(mask, ink)
    inside = _within_frame(blots)
    if inside is blots and (unboxed := _without_box(mask)) is not None:
        inside = _Blots.of(unboxed, ink)
    is_edge = _are_page_edges(inside, ink.shape)
    blots = inside if is_edge.all() else inside.where(~is_edge)
    main = blots.weights.argmax()
    box, length, shares = blots.boxes[main], blots.sizes[main].max(), blots.weights / blots.weights[main]
    gaps = np.maximum(box[::2] - blots.boxes[:, 1::2], blots.boxes[:, ::2] - box[1::2])  # Below 0: they overlap.
    is_near = gaps.max(axis=1) <= 0.25 * length
    kept = (shares >= PIECE) | ((shares >= SPECK) & is_near)
    notes = []
    if (kept & (gaps[:, 1] >= 0) & (shares >= PIECE) & (blots.sizes[:, 0] > 0.5 * length)).any():
        notes.append("more than one digit?")
    if length < 12:
        notes.append("very small")
    return np.isin(blots.labelled, blots.numbers[kept]), tuple(notes)


def _are_page_edges(blots: _Blots, shape: Sequence[int]) -> np.ndarray:
    """Return which blots lie along one whole side of an image, as the table under a page does: bool (n,)."""
    at_one_end = (blots.boxes[:, ::2] == 0) != (blots.boxes[:, 1::2] == shape)
    is_long, is_thin = blots.sizes > 0.9 * np.array(shape), blots.sizes < 0.3 * np.array(shape)
    return (at_one_end & is_thin & is_long[:, ::-1]).any(axis=1)


def _within_frame(blots: _Blots) -> _Blots:
    """Return the blots inside a ring or a box that is drawn round something of a third of its size; else all."""
    lengths = blots.sizes.max(axis=1)
    for index in np.argsort(-blots.weights)[:3] if len(lengths) > 1 else ():
        frame = blots.labelled == blots.numbers[index]
        inside = np.isin(blots.numbers, blots.labelled[_filled(frame) & ~frame])
        if (lengths[inside] > 0.35 * lengths[index]).any():
            return _within_frame(blots.where(inside))
    return blots


def _without_box(mask: np.ndarray) -> np.ndarray | None:
    """Return a mask without the thin lines of a box that a digit crosses; None where none is within the image."""
    if edge_of(mask).any():
        return None
    lines = np.zeros_like(mask)
    for axis in (0, 1):
        size = mask.shape[1 - axis] // 6 * 2 + 1
        shortened = ndimage.minimum_filter1d(mask.astype(np.uint8), size, 1 - axis, mode="constant")
        labelled, _ = ndimage.label(ndimage.maximum_filter1d(shortened, size, 1 - axis, mode="constant"), TOUCHING)
        boxes = enumerate(ndimage.find_objects(labelled), start=1)
        thin = [number for number, box in boxes if box[axis].stop - box[axis].start <= 4]  # Of a 160th of the side.
        if len(thin) < 2:
            return None
        lines |= np.isin(labelled, thin)
    rest = mask & ~ndimage.binary_dilation(lines, TOUCHING)
    return ndimage.binary_closing(rest, np.ones((5, 5))) if rest.sum() > 0.2 * mask.sum() else None


def resize(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return values (h, w) resized to (height, width), antialiased, float32."""
    image = Image.fromarray(values.astype(np.float32, copy=False))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return pixels uint8 (h, w, channels) as float32 (channels, h, w), the long side at most FINDING_SIDE."""
    factor = max(1.0, max(pixels.shape[:2]) / FINDING_SIDE)
    width, height = (max(1, round(length / factor)) for length in pixels.shape[1::-1])
    planes = as_image(pixels).resize((width, height), Image.Resampling.BOX, reducing_gap=1.0).split()
    return np.stack([np.asarray(plane, np.float32) for plane in planes])
