"""The layers of a network, read from its saved model without Keras, which takes seconds to load."""

import io
import itertools
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

Shape = tuple[int, ...]
COUNTED = re.compile(r"(Depthwise|Separable)?Conv\dD|Dense")
"""Layers that multiply by each weight of their kernels once for each position of the output."""


@dataclass
class Layers:
    """A layer with a kernel, and those that follow it, up to the next one with a kernel."""

    names: list[str]
    output: Shape  # Of the last of them, for one image.
    weights: int
    multiply_adds: int  # An image's, in layers that are COUNTED.


def read_layers(model: Path, classes: int) -> list[Layers]:
    """Return the layers of a .keras file; OSError, BadZipFile, ValueError or KeyError if it is none."""
    shapes: dict[str, Shape] = {}

    def note_shape(item: dict) -> dict:
        if item.get("class_name") == "__keras_tensor__":  # What another layer takes of this one.
            shapes[item["config"]["keras_history"][0]] = tuple(item["config"]["shape"][1:])
        return item

    with zipfile.ZipFile(model) as archive:
        config = json.loads(archive.read("config.json"), object_hook=note_shape)["config"]
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    rows: list[Layers] = []
    for layer, output, arrays in _flat(config, weights, shapes, (classes,)):
        kernels = sum(math.prod(array) for array in arrays if len(array) > 1)
        if kernels or not rows:
            rows.append(Layers([], output, 0, 0))
        row, window = rows[-1], layer["config"].get("kernel_size", ())
        row.names.append(" ".join([layer["class_name"], " × ".join(map(str, window))]).strip())
        row.output = output
        row.weights += sum(map(math.prod, arrays))
        if COUNTED.fullmatch(layer["class_name"]):
            row.multiply_adds += kernels * math.prod(output[:-1])
    return rows


def _flat(config: dict, weights: Any, shapes: dict, last: Shape) -> Iterator[tuple[dict, Shape, list[Shape]]]:
    """Yield all layers, those inside of others too, with the shapes of their outputs and of their weights."""
    numbers: Counter[str] = Counter()
    shape: Shape = ()
    for layer, following in itertools.zip_longest(config["layers"], config["layers"][1:]):
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()  # As Keras names it among the weights.
        group = weights.get(f"layers/{name}_{numbers[name]}" if numbers[name] else f"layers/{name}", {})
        numbers[name] += 1
        # A Sequential only says what comes into layers that have to be built.
        built = (following or {}).get("build_config", {}).get("input_shape") or ()
        known = shapes.get(layer.get("name", layer["config"].get("name"))) or tuple(built[1:])
        shape = (known or _computed(layer["config"], shape)) if following else last
        if "layers" in layer["config"]:
            yield from _flat(layer["config"], group, shapes, shape)
        elif layer["class_name"] != "InputLayer":
            arrays: list[Shape] = []
            if group:
                group.visititems(lambda path, item, to=arrays: to.append(item.shape) if "vars/" in path else None)
            yield layer, shape, arrays


def _computed(settings: dict[str, Any], before: Shape) -> Shape:
    """Return the shape of a convolution's or pooling's output; of another layer that of its input."""
    window = settings.get("kernel_size") or settings.get("pool_size")
    if "batch_shape" in settings or not window:
        return tuple(settings.get("batch_shape", (None, *before))[1:])
    lost = [0 if settings["padding"] == "same" else size - 1 for size in window]
    axes = zip(before, lost, settings["strides"], strict=False)
    return (*(math.ceil((side - less) / stride) for side, less, stride in axes), settings.get("filters", before[-1]))
