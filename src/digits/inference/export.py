"""Export a run's whole ensemble as one file for other runtimes, and check the file in its own runtime."""

import contextlib
import importlib.util
import io
import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digits.console import BadInput, KitError
from digits.data import dataset
from digits.files import atomic_write
from digits.inference.predictor import Predictor
from digits.model.backend import silenced

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "saved-model": "-saved-model", "keras": ".keras", "h5": ".h5"}
H5_NAME = "mnistModel2.h5"
"""HDF5 holds the first network alone, under the name in the baseline's README."""


NEEDED = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "litert": ("ai_edge_litert",)}
"""Packages beyond requirements.txt, in requirements-export.txt."""


TOLERANCE = 1e-4
"""The most by which a probability of the file may differ from the run's."""


CHECKED, CHECK_BATCH = 1000, 100


INPUT, OUTPUT = "images_0_to_255", "probabilities"


Runtime = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """A file that passed its check."""

    path: Path
    readme: Path
    size_bytes: int
    images: int
    """Compared with the run's own networks."""
    worst_difference: float
    """Of a probability."""
    images_per_second: float
    """In the file's own runtime."""
    keras_images_per_second: float
    differs_from_submission: int | None
    """Answers other than those that the run wrote; None where its test images are not on this machine."""


def require_packages(form: str) -> None:
    """Check that what a format needs is installed.

    Raises:
        BadInput: naming what is missing.
    """
    missing = [name for name in NEEDED.get(form, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"--format {form} needs {', '.join(missing).replace('_', '-')}, not installed. "
            "Install: pip install -r requirements-export.txt"
        )


def export(predictor: Predictor, form: str, folder: Path | None = None) -> Exported:
    """Write the ensemble as one file that takes uint8 images and gives probabilities, and a README beside it.

    The file is compared with the run's own networks, each predicted with on its own, on 1,000 images; one that differs
    is removed.

    Args:
        predictor: of the run, with or without test-time augmentation.
        form: one of SUFFIXES.
        folder: where to write; None: the run's folder, `export`.

    Raises:
        BadInput: if a package is missing.
        KitError: if the file does not agree with the run.
    """
    require_packages(form)
    folder = folder or predictor.run.folder / "export"
    folder.mkdir(parents=True, exist_ok=True)
    path = _file(folder, predictor, form)
    images, stored = _check_images(predictor)
    with _temporary(path) as temporary:
        _write(predictor, form, temporary)
        runtime = _open(form, temporary)
        wanted = predictor.of_first(images) if form == "h5" else predictor.separately(images)
        found, images_per_second = _timed(runtime, images)
        worst = float(np.abs(found - wanted).max())
        differing = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        if worst > TOLERANCE or differing:
            raise KitError(
                f"{path.name} does not agree with run {predictor.run.name}: probabilities differ by up to {worst:.1e} "
                f"(expected at most {TOLERANCE:.0e}), {differing} of {len(images):,} answers differ. It was not kept."
            )
    _, keras_images_per_second = _timed(lambda batch: predictor.model.predict_on_batch(batch), images)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    readme = folder / "README.md"
    with atomic_write(readme) as temporary:
        temporary.write_text(_readme(predictor, folder), encoding="utf-8")
    other = None if stored is None else int((found.argmax(axis=1) != stored.argmax(axis=1)).sum())
    return Exported(path, readme, size, len(images), worst, images_per_second, keras_images_per_second, other)


def _file(folder: Path, predictor: Predictor, form: str) -> Path:
    return folder / (H5_NAME if form == "h5" else f"{predictor.run.name}{SUFFIXES[form]}")


@contextlib.contextmanager
def _temporary(path: Path):
    """Yield a path beside `path`, a file or a folder, that replaces it when the block ends well."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")

    def remove(which: Path) -> None:
        shutil.rmtree(which) if which.is_dir() else which.unlink(missing_ok=True)

    remove(temporary)
    try:
        yield temporary
        remove(path)
        temporary.rename(path)
    finally:
        remove(temporary)


def _check_images(predictor: Predictor) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images uint8 (1000, side, side), the run's first test images where they are here, and what it wrote."""
    with contextlib.suppress(KitError, OSError):
        images = predictor.record.load_data().test.images
        _, stored = predictor.run.probabilities()
        if len(stored) == len(images):
            return images[:CHECKED], stored[:CHECKED]
    side = predictor.model.input_shape[1]
    sample = dataset.load("sample").test.images
    if side == sample.shape[1]:
        return sample[:CHECKED], None
    return np.random.default_rng(0).integers(0, 256, (CHECKED, side, side)).astype(np.uint8), None


def _timed(runtime: Runtime, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the probabilities of images, and how many a second there were after a first batch."""
    runtime(images[:CHECK_BATCH])
    started = time.perf_counter()
    found = [runtime(images[start : start + CHECK_BATCH]) for start in range(0, len(images), CHECK_BATCH)]
    return np.concatenate(found), len(images) / (time.perf_counter() - started)


def _write(predictor: Predictor, form: str, path: Path) -> None:
    import keras

    if form == "keras":
        predictor.model.save(path)
        return
    if form == "h5":
        logging.getLogger("absl").setLevel(logging.ERROR)  # Keras recommends .keras.
        predictor.loaded[0].networks[0].save(path)
        return
    # A named output: converters call it Identity or output_0 otherwise.
    model = keras.Model(predictor.model.input, {OUTPUT: predictor.model.output}, name=predictor.model.name)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    kind = {"onnx": "onnx", "litert": "litert", "saved-model": "tf_saved_model"}[form]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), silenced(2):
        model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # Keras exports to ONNX only what was called.
        model.export(path, format=kind, verbose=False)
    if form == "onnx":
        _describe_onnx(predictor, path)


def _describe_onnx(predictor: Predictor, path: Path) -> None:
    import onnx

    model = onnx.load(path)
    old = model.graph.output[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == old:
                node.output[index] = OUTPUT
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = OUTPUT
    model.graph.output[0].name = OUTPUT
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    model.doc_string = _description(predictor)
    onnx.helper.set_model_props(model, {"classes": json.dumps(predictor.classes), "run": predictor.run.name})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _open(form: str, path: Path) -> Runtime:
    """Return the file as a function from images to probabilities, in the runtime that it is for."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run([OUTPUT], {INPUT: images})[0]
    if form == "litert":
        from ai_edge_litert.interpreter import Interpreter

        with silenced(2):  # It prints which delegate it uses.
            return _litert(Interpreter(str(path)))
    if form == "saved-model":
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        return lambda images: loaded.serve(images)[OUTPUT].numpy()
    import keras

    model = keras.models.load_model(path, safe_mode=True)
    if form == "h5":
        return lambda images: model.predict_on_batch(images[..., np.newaxis])
    return lambda images: model.predict_on_batch(images)


def _litert(interpreter: Any) -> Runtime:
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]

    def run(images: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(place, images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()

    return run


def _description(predictor: Predictor) -> str:
    _, height, width = predictor.model.input_shape
    return (
        f"Input {INPUT}: uint8 (n, {height}, {width}), 0 background to 255 ink; do not divide by 255. "
        f"Output {OUTPUT}: float32 (n, {len(predictor.classes)}), the classes {', '.join(predictor.classes)}."
    )


def _readme(predictor: Predictor, folder: Path) -> str:
    """Return the README of all exports of the run in a folder."""
    name, (_, height, width) = predictor.run.name, predictor.model.input_shape
    networks = sum(len(member.models) for member in predictor.members)
    parts = {
        "onnx": f"""## {name}.onnx
```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{name}.onnx")
probabilities = session.run(["{OUTPUT}"], {{"{INPUT}": images}})[0]  # images: np.uint8 (n, {height}, {width})
```

In a browser, with [ONNX Runtime Web](https://onnxruntime.ai/docs/get-started/with-javascript/web.html):

```js
const session = await ort.InferenceSession.create("{name}.onnx");
const images = new ort.Tensor("uint8", pixels, [1, {height}, {width}]); // pixels: Uint8Array of {height * width}
const {{ {OUTPUT} }} = await session.run({{ {INPUT}: images }}); // {OUTPUT}.data: Float32Array
```
""",
        "litert": f"""## {name}.tflite
```python
from ai_edge_litert.interpreter import Interpreter
run = Interpreter("{name}.tflite").get_signature_runner()
probabilities = run({INPUT}=images)["{OUTPUT}"]  # images: np.uint8 (n, {height}, {width})
```
""",
        "saved-model": f"""## {name}-saved-model
```python
import tensorflow as tf
model = tf.saved_model.load("{name}-saved-model")
probabilities = model.serve(images)["{OUTPUT}"]  # images: np.uint8 (n, {height}, {width})
```
""",
        "keras": f"""## {name}.keras
```python
import keras
model = keras.models.load_model("{name}.keras")
probabilities = model.predict(images)  # images: np.uint8 (n, {height}, {width})
```
""",
    }
    parts["h5"] = f"""## {H5_NAME}
The first of the networks alone.

```python
import keras
model = keras.models.load_model("{H5_NAME}")
probabilities = model.predict(images[..., None])  # images: np.uint8 (n, {height}, {width})
```
"""
    made = [part for form, part in parts.items() if _file(folder, predictor, form).exists()]
    return (
        f"# Run {name}\n\n{networks} network{'s' * (networks != 1)} in one file. {_description(predictor)}\n\n"
        "Images must be in MNIST's form: a light digit on black, scaled into 20 × 20 pixels and centred by mass. "
        "`prepare` in src/digits/data/images.py does that; docs/use-a-model.md says how.\n\n" + "\n".join(made)
    )
