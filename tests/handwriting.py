"""Digits that MNIST never saw: drawn by a program with the irregularities of a hand, in ten styles, and in fonts."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.interpolate import make_interp_spline

# Strokes as points (x, y) in a box of width 0.6 and height 1; each digit as one or several people write it.
STROKES = {
    0: [
        [[(0.32, 0.0), (0.06, 0.2), (0.0, 0.55), (0.12, 0.9), (0.35, 1.0), (0.56, 0.75), (0.58, 0.3), (0.3, 0.0)]],
        [[(0.4, 0.02), (0.12, 0.12), (0.02, 0.5), (0.1, 0.88), (0.32, 1.0), (0.55, 0.8), (0.6, 0.4), (0.36, 0.0)]],
    ],
    1: [[[(0.3, 0.0), (0.3, 0.5), (0.28, 1.0)]], [[(0.1, 0.25), (0.2, 0.14), (0.32, 0.0)], [(0.32, 0.0), (0.32, 1.0)]]],
    2: [
        [[(0.04, 0.2), (0.2, 0.01), (0.48, 0.05), (0.52, 0.35), (0.28, 0.7), (0.02, 0.97)], [(0.02, 0.97), (0.6, 1)]],
        [[(0.05, 0.2), (0.3, 0.0), (0.54, 0.2), (0.35, 0.6), (0.08, 0.93), (0.05, 0.82), (0.25, 0.88), (0.6, 1.0)]],
    ],
    3: [[
        [(0.05, 0.1), (0.3, 0.0), (0.5, 0.15), (0.42, 0.38), (0.2, 0.46)],
        [(0.2, 0.46), (0.48, 0.52), (0.57, 0.75), (0.35, 0.98), (0.02, 0.92)],
    ]],
    4: [
        [[(0.35, 0.0), (0.2, 0.3), (0.02, 0.64)], [(0.02, 0.64), (0.6, 0.62)], [(0.44, 0.3), (0.43, 1.0)]],
        [[(0.08, 0.02), (0.04, 0.25), (0.06, 0.48)], [(0.06, 0.48), (0.5, 0.46)], [(0.5, 0), (0.48, 0.5), (0.5, 1)]],
    ],
    5: [[
        [(0.1, 0.02), (0.56, 0.0)], [(0.1, 0.02), (0.08, 0.42)],
        [(0.08, 0.42), (0.32, 0.34), (0.55, 0.55), (0.5, 0.85), (0.25, 1.0), (0.0, 0.88)],
    ]],
    6: [[[(0.45, 0.0), (0.2, 0.22), (0.04, 0.6), (0.12, 0.92), (0.35, 1.0), (0.54, 0.8), (0.42, 0.56), (0.1, 0.66)]]],
    7: [
        [[(0.02, 0.04), (0.58, 0.02)], [(0.58, 0.02), (0.4, 0.45), (0.25, 1.0)]],
        [[(0.02, 0.05), (0.58, 0.03)], [(0.58, 0.03), (0.38, 0.5), (0.24, 1.0)], [(0.16, 0.5), (0.54, 0.48)]],
    ],
    8: [[[
        (0.46, 0.12), (0.25, 0.0), (0.08, 0.18), (0.26, 0.42), (0.5, 0.66), (0.46, 0.93),
        (0.22, 1.0), (0.04, 0.8), (0.2, 0.54), (0.46, 0.3), (0.45, 0.1),
    ]]],
    9: [
        [[(0.5, 0.15), (0.28, 0.0), (0.06, 0.2), (0.14, 0.45), (0.4, 0.42), (0.52, 0.14)], tail]
        for tail in ([(0.52, 0.14), (0.5, 0.6), (0.4, 1.0)], [(0.52, 0.14), (0.52, 0.65), (0.4, 0.95), (0.1, 0.92)])
    ],
}  # fmt: skip
FONTS = (
    "fifthhorseman/dkg.ttf", "breip/Breip.ttf", "rufscript/Rufscript010.ttf",
    "sjfonts/SteveHand.ttf", "sjfonts/Delphine.ttf", "humor-sans/Humor-Sans.ttf", "klee/KleeOne-Regular.ttf",
    "yusei-magic/YuseiMagic-Regular.ttf", "kristi/Kristi.ttf",
)  # fmt: skip
"""Handwriting fonts of Debian's packages fonts-*; what is not installed is left out."""


def stroked(digit, random, *, size, height, width, pressure=0.25, slant=8.0, turn=4.0, centre=(0.5, 0.5), steady=0.02):
    """Return ink float32 (size[1], size[0]) in 0-1 of a digit `height` pixels high, of strokes `width` pixels wide.

    `digit` is one of STROKES, or forms such as these.
    """
    scale = 4 if max(size) <= 200 else 2
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    draw = ImageDraw.Draw(canvas)
    forms = digit if isinstance(digit, list) else STROKES[digit]
    form = forms[random.integers(len(forms))]
    shear, angle = np.tan(np.radians(random.uniform(-slant, slant))), np.radians(random.uniform(-turn, turn))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    broad = random.uniform(0.85, 1.2)
    wobble = {point: random.normal(0, steady, 2) for stroke in form for point in stroke}
    for stroke in form:
        points = np.array([np.add(point, wobble[point]) for point in stroke]) - (0.3, 0.5)
        points[:, 0] = points[:, 0] * broad - shear * points[:, 1]
        points = points @ rotation.T * height
        spans = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        at = np.linspace(0, spans[-1], max(20, int(spans[-1] * scale)))
        curve = make_interp_spline(spans, points, k=min(2, len(points) - 1))(at)
        phase = random.uniform(0, 2 * np.pi)
        radii = width / 2 * (1 + pressure * np.sin(at / height * 5 + phase)) * scale
        xy = (curve + np.multiply(centre, size)) * scale
        for (x, y), radius in zip(xy, radii, strict=True):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas.reduce(scale), np.float32) / 255


def paper(ink, random, *, page=(250, 250, 250), pen=(20, 20, 40), noise=0.0):
    """Return a PIL image of ink in 0-1 on a page, in the colours given."""
    page, pen = np.array(page, float), np.array(pen, float)
    pixels = page + ink[..., None] * (pen - page) + random.normal(0, noise, (*ink.shape, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photographed(ink, random):
    """Return ink as a photograph: uneven light, a shadow, noise, a turn of up to 10°, and JPEG's artefacts."""
    height, width = ink.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    direction = random.uniform(0, 2 * np.pi)
    light = 185 + 45 * (x * np.cos(direction) + y * np.sin(direction)) - 20 * (x**2 + y**2)
    edge = random.uniform(-0.6, 0.6)
    shadow = 1 / (1 + np.exp(-(x * np.sin(direction) - y * np.cos(direction) - edge) * 25))
    light = light * (1 - 0.3 * shadow)
    turned = Image.fromarray((ink * 255).astype(np.uint8)).rotate(random.uniform(-10, 10), Image.Resampling.BICUBIC)
    ink = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.8)), np.float32) / 255
    pixels = light[..., None] * (1 - ink[..., None] * np.array([0.75, 0.7, 0.55])) * np.array([1.0, 0.98, 0.9])
    pixels += random.normal(0, 5, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=60)
    return Image.open(file)


WHITE, BLACK = (255, 255, 255), (0, 0, 0)
DRAWN = {
    "pen": ({"size": (300, 300), "height": 190, "width": 5}, {}),
    "marker": (
        {"size": (280, 280), "height": 190, "width": 24, "pressure": 0.1}, {"page": WHITE, "pen": (200, 30, 40)}
    ),
    "slanted": ({"size": (260, 320), "height": 200, "width": 11, "slant": 24}, {"pen": (20, 40, 160)}),
    "pencil": (
        {"size": (320, 320), "height": 200, "width": 7, "pressure": 0.5, "steady": 0.03},
        {"page": (236, 233, 226), "pen": (120, 120, 125), "noise": 4},
    ),
    "photo": ({"size": (640, 480), "height": 250, "width": 11}, {}),
    "inverted": (
        {"size": (280, 280), "height": 180, "width": 14}, {"page": (24, 46, 36), "pen": (225, 225, 215), "noise": 3}
    ),
    "off-centre": ({"size": (400, 300), "height": 140, "width": 10}, {}),
    "tiny": ({"size": (500, 400), "height": 26, "width": 2.5, "centre": (0.6, 0.4)}, {}),
    "huge": (
        {"size": (200, 240), "height": 222, "width": 26, "slant": 2, "turn": 1}, {"page": WHITE, "pen": BLACK}
    ),
    "transparent": ({"size": (280, 280), "height": 190, "width": 15}, {}),
}  # fmt: skip
"""The strokes and the paper of each style."""
STYLES = tuple(DRAWN)


def drawn(style, digit, seed=0):
    """Return a PIL image of `digit` in one of STYLES; the same seed draws the same."""
    random = np.random.default_rng((STYLES.index(style), digit, seed))
    strokes, page = DRAWN[style]
    if style == "off-centre":
        strokes = strokes | {"centre": (random.choice([0.22, 0.78]), random.choice([0.25, 0.75]))}
    ink = stroked(digit, random, **strokes)
    if style == "photo":
        return photographed(ink, random)
    if style == "transparent":
        image = Image.new("RGBA", ink.shape[::-1], BLACK if digit % 2 else WHITE)
        image.putalpha(alone(ink))
        return image
    return paper(ink * random.uniform(0.6, 1, ink.shape) if style == "pencil" else ink, random, **page)


def with_upstroke(seed):
    """Return a PIL image of a 1 with an upstroke: a fifth to three fifths of its height, 20 to 60° off the vertical.

    Some have a foot, half are photographs.
    """
    random = np.random.default_rng((1, seed))
    angle, length, sag = np.radians(random.uniform(20, 60)), random.uniform(0.2, 0.6), random.uniform(-0.1, 0.1)
    top, foot = np.array([0.35, 0]), np.array([0.35 + random.uniform(-0.15, 0.1), 1])
    along, across = (np.array(way) for way in ((-np.sin(angle), np.cos(angle)), (np.cos(angle), np.sin(angle))))
    middle = top + length * (along / 2 + sag * across)
    strokes = [[top + length * along, middle, top], [top, (top + foot) / 2, foot]]
    if random.random() < 0.4:
        strokes.append([np.subtract(foot, (0.2, 0)), np.add(foot, (0.2, 0))])
    form = [[tuple(point) for point in stroke] for stroke in strokes]
    ink = stroked([form], random, size=(300, 300), height=190, width=random.uniform(5, 20))
    return photographed(ink, random) if seed % 2 else paper(ink, random, noise=2)


SURROUNDINGS = ("desk", "sticky note", "ring", "field", "crossed field", "date stamp", "cut at the ink", "fat marker")


def alone(ink):
    """Return ink in 0-1 as a PIL image, white on black."""
    return Image.fromarray((ink * 255).astype(np.uint8))


def surrounded(kind, digit, seed=0):
    """Return a PIL image of `digit` in one of SURROUNDINGS, and its ink alone; the same seed draws the same."""
    random = np.random.default_rng((SURROUNDINGS.index(kind), digit, seed))
    if kind in ("desk", "sticky note"):
        ink = stroked(digit, random, size=(240, 240), height=140, width=random.uniform(6, 13))
        page, table = ((235, 232, 225), (80, 60, 40)) if kind == "desk" else ((250, 230, 80), (240, 238, 232))
        sheet = paper(ink, random, page=page)
        angle, image = random.uniform(-12, 12), Image.new("RGB", (480, 400), table)
        whole = Image.new("L", sheet.size, 255).rotate(angle, expand=True)
        image.paste(sheet.rotate(angle, Image.Resampling.BICUBIC, expand=True), (110, 40), whole)
        return image.filter(ImageFilter.GaussianBlur(0.7)), alone(ink).rotate(angle)
    if kind == "cut at the ink":
        ink = stroked(digit, random, size=(300, 300), height=200, width=random.choice([5, 12, 24, 34]))
        rows, columns = np.flatnonzero((ink > 0.3).any(axis=1)), np.flatnonzero((ink > 0.3).any(axis=0))
        return paper(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], random, noise=2), alone(ink)
    if kind == "fat marker":
        ink = stroked(digit, random, size=(240, 300), height=240, width=random.uniform(40, 60), pressure=0.1)
        return paper(ink, random, page=(255, 255, 255)), alone(np.pad(ink, 100))
    height = 200 if kind == "crossed field" else 130
    ink = stroked(digit, random, size=(300, 320), height=height, width=random.uniform(6, 11))
    image = paper(ink, random)
    draw, pen = ImageDraw.Draw(image), (60, 60, 80)
    if kind == "ring":
        draw.ellipse((30, 35, 270, 285), outline=pen, width=6)
    elif kind == "date stamp":
        draw.text((95, 268), "2026.11.29", fill=pen, font=ImageFont.load_default(40))
    else:
        draw.rectangle((75, 65, 225, 255), outline=pen, width=3)
    return image, alone(ink)


def fonts():
    return [path for name in FONTS if (path := Path("/usr/share/fonts/truetype") / name).exists()]


def typed(font, digit, size=160):
    image = Image.new("L", (260, 260), 255)
    ImageDraw.Draw(image).text((130, 130), str(digit), fill=0, font=ImageFont.truetype(font, size), anchor="mm")
    return image


def write_all(folder, seed=0):
    """Write all digits of all styles, and of the fonts that are installed, as FOLDER/STYLE_DIGIT.png or .jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    for digit in range(10):
        for style in STYLES:
            image = drawn(style, digit, seed)
            image.save(folder / f"{style}_{digit}.{'jpg' if style == 'photo' else 'png'}")
        for font in fonts():
            typed(font, digit).save(folder / f"font-{font.stem}_{digit}.png")
