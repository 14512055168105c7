"""Export a run's networks as one file for other runtimes, and check the file in its own runtime."""

import contextlib
import importlib.util
import io
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.console import BadInput, KitError, counted
from digits.data import dataset
from digits.data.image_form import ImageForm, shape_text
from digits.files import atomic_write, display_path
from digits.inference.predictor import Ensemble, Predictor
from digits.model.backend import silenced

INPUT, OUTPUT = "images_0_to_255", "probabilities"
TOLERANCE = 1e-4
"""The most by which a probability of the file may differ from the run's: float32 summed in another order."""
CHECKED, CHECK_BATCH = 1000, 100
LEAST_FREE_BYTES = 1 << 20
"""Less free space than this after a failure is its reason: not even a small network fits into it."""
Runtime = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Format:
    """A form in which networks are exported; RUN stands for the run's name."""

    file: str
    usage: str  # How to load it, in Markdown; SHAPE, NETWORK_SHAPE and SIZE are replaced, too.
    packages: tuple[str, ...] = ()  # Beyond requirements.txt, in requirements-export.txt.


FORMATS = {
    "onnx": Format(
        "RUN.onnx",
        f"""```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("RUN.onnx")
probabilities = session.run(["{OUTPUT}"], {{"{INPUT}": images}})[0]  # images: np.uint8 (n, SHAPE)
```

In a browser, with [ONNX Runtime Web](https://onnxruntime.ai/docs/get-started/with-javascript/web.html):

```js
const session = await ort.InferenceSession.create("RUN.onnx");
const images = new ort.Tensor("uint8", pixels, [1, SHAPE]); // pixels: Uint8Array of SIZE
const {{ {OUTPUT} }} = await session.run({{ {INPUT}: images }}); // {OUTPUT}.data: Float32Array
```
""",
        ("onnx", "onnxruntime", "tf2onnx"),
    ),
    "litert": Format(
        "RUN.tflite",
        f"""```python
from ai_edge_litert.interpreter import Interpreter
run = Interpreter("RUN.tflite").get_signature_runner()
probabilities = run({INPUT}=images)["{OUTPUT}"]  # images: np.uint8 (n, SHAPE)
```
""",
        ("ai_edge_litert",),
    ),
    "saved-model": Format(
        "RUN-saved-model",
        f"""```python
import tensorflow as tf
model = tf.saved_model.load("RUN-saved-model")
probabilities = model.serve(images)["{OUTPUT}"]  # images: np.uint8 (n, SHAPE)
```
""",
    ),
    "keras": Format(
        "RUN.keras",
        """```python
import keras
model = keras.models.load_model("RUN.keras")
probabilities = model.predict(images)  # images: np.uint8 (n, SHAPE)
```
""",
    ),
    "h5": Format(
        "mnistModel2.h5",
        """The first of the networks alone, in HDF5, under the name in the baseline's README.

```python
import keras
model = keras.models.load_model("mnistModel2.h5")
probabilities = model.predict(images)  # images: np.uint8 (n, NETWORK_SHAPE)
```
""",
    ),
}


def require_packages(form: str) -> None:
    """Check that what a format needs is installed; BadInput, naming what is missing."""
    missing = [name for name in FORMATS[form].packages if importlib.util.find_spec(name) is None]
    if missing:
        problem = f"--format {form} needs {', '.join(missing).replace('_', '-')}, not installed"
        raise BadInput(problem, fix="Install: pip install -r requirements-export.txt")


def export(predictor: Predictor, form: str, folder: Path | None = None) -> list[str]:
    """Write the networks as one file that takes uint8 images and gives probabilities, and how to use it beside it.

    The file is compared with the run's own networks, each predicting on its own, on 1,000 images; one that differs is
    removed. `folder` is by default `export` in the run's folder. Return lines that say how it compares. Raises KitError
    if the networks cannot be written in this form, or the file does not agree with the run.
    """
    folder = folder or predictor.run.folder / "export"
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, predictor, form)
    ensemble = predictor.first_network() if form == "h5" else predictor
    images, recorded = _check_images(predictor)
    model_images = images.reshape(-1, *ensemble.model.input_shape[1:])
    with _temporary(path) as temporary:
        with _refused(form, folder):
            _write(ensemble, form, temporary)
            if form == "onnx":
                _describe_onnx(predictor, temporary)
            predicted, speed = _timed(_open(form, temporary), images if form == "h5" else model_images)
        expected = ensemble.probabilities(images, one_by_one=True)
        worst = float(np.abs(predicted - expected).max())
        differing = _differing(predicted, expected)
        if worst > TOLERANCE or differing:
            raise KitError(
                f"{path.name} does not agree with run {predictor.run.name}: probabilities differ by up to {worst:.1e} "
                f"(expected at most {TOLERANCE:.0e}), {differing} of {len(images):,} predictions differ. It was not "
                "kept."
            )
    _, keras_speed = _timed(ensemble.model.predict_on_batch, model_images)
    size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
    readme = folder / f"{predictor.run.name}.md"  # A README.md there may be the user's.
    with atomic_write(readme) as temporary:
        temporary.write_text(_readme(predictor, folder), encoding="utf-8")
    agrees = f"no prediction differs from the run's networks, no probability by more than {worst:.1g}"
    lines = [
        f"{display_path(path)}  {size / 1e6:.1f} MB",
        f"Checked on {len(images):,} images in its own runtime: {agrees}.",
    ]
    if recorded is not None:
        differing = _differing(predicted, recorded)
        lines.append(f"Predictions that differ from the run's own: {differing:,} of {len(images):,}.")
    if differing and form == "h5" and predictor.network_count > 1:
        lines.append("The run's own are of all its networks; this file holds the first alone.")
    elif differing and predictor.leaves_out_tta:
        lines.append("The run's own are averages over augmented copies; with --tta (not h5) the file's are, too.")
    lines.append(f"{speed:,.0f} images/s in its own runtime, {keras_speed:,.0f} in Keras, on this machine.")
    return [*lines, f"How to use it: {display_path(readme)}"]


@contextlib.contextmanager
def _refused(form: str, folder: Path) -> Iterator[None]:
    """Explain in one line why a file cannot be made or used: converters and runtimes raise exceptions of any kind."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            raise KitError(f"No space left on device: {folder}") from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        others = ", ".join(name for name in FORMATS if name != form)
        raise KitError(
            f"These networks cannot be exported as {form}: {type(error).__name__}: {''.join(lines[:1])}",
            fix=f"Other formats: --format {others}",
        ) from None


def _differing(first: np.ndarray, second: np.ndarray) -> int:
    return int((first.argmax(axis=1) != second.argmax(axis=1)).sum())


def _path(folder: Path, predictor: Predictor, form: str) -> Path:
    return folder / FORMATS[form].file.replace("RUN", predictor.run.name)


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
    """Return images uint8 (1000, height, width, channels), if possible of the test set, and what the run wrote."""
    with contextlib.suppress(KitError, OSError):
        images = predictor.record.load_data().test.images
        _, recorded = predictor.run.probabilities()
        if len(recorded) == len(images):
            return images[:CHECKED], recorded[:CHECKED]
    sample = dataset.load("sample").test.images[:CHECKED]
    if predictor.input_shape == sample.shape[1:]:
        return sample, None
    return np.random.default_rng(0).integers(0, 256, (CHECKED, *predictor.input_shape), dtype=np.uint8), None


def _timed(runtime: Runtime, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the probabilities of images, and how many a second there were after a first batch."""
    runtime(images[:CHECK_BATCH])
    started = time.perf_counter()
    predicted = [runtime(images[start : start + CHECK_BATCH]) for start in range(0, len(images), CHECK_BATCH)]
    return np.concatenate(predicted), len(images) / (time.perf_counter() - started)


def _write(ensemble: Ensemble, form: str, path: Path) -> None:
    import keras

    from digits.model.predict import save_network

    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras recommends .keras instead of .h5.
    if form == "h5":
        ensemble.networks[0][0].save(path)
        return
    if form == "keras":
        save_network(ensemble.model, path)
        return
    # A named output: converters call it Identity or output_0 otherwise.
    model = keras.Model(ensemble.model.input, {OUTPUT: ensemble.model.output}, name=ensemble.model.name)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    kind = form.replace("saved-model", "tf_saved_model")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), silenced(2):
        model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # Keras exports to ONNX only what was called.
        model.export(path, format=kind, verbose=False)


def _describe_onnx(predictor: Predictor, path: Path) -> None:
    import onnx

    model = onnx.load(path)
    old = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [OUTPUT if name == old else name for name in names]
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

        interpreter = Interpreter(str(path))
        with silenced(2):
            interpreter.allocate_tensors()  # Which prints what delegate it uses.
        run = interpreter.get_signature_runner()
        return lambda images: run(**{INPUT: images})[OUTPUT]
    if form == "saved-model":
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        return lambda images: loaded.serve(images)[OUTPUT].numpy()
    import keras

    return keras.models.load_model(path, safe_mode=True).predict_on_batch


def _shape(predictor: Predictor) -> str:
    return ", ".join(map(str, predictor.model.input_shape[1:]))


def _description(predictor: Predictor) -> str:
    return (
        f"Input {INPUT}: uint8 (n, {_shape(predictor)}), 0 to 255; do not divide by 255. "
        f"Output {OUTPUT}: float32 (n, {len(predictor.classes)}), the classes {', '.join(predictor.classes)}."
    )


def _readme(predictor: Predictor, folder: Path) -> str:
    """Return the README of all exports of the run in a folder."""
    image_form = predictor.record.data.form or ImageForm()
    preparation = f"Images must look as the training images do: {shape_text(image_form.shape)}."
    if image_form.is_mnist:
        preparation = (
            "Images must be in MNIST's form: a light digit on black, scaled into 20 × 20 pixels and centred by mass. "
            "`prepare` in src/digits/data/preparation.py does that; docs/use-a-model.md says how."
        )
    lines = [
        f"# Run {predictor.run.name}",
        f"{counted(predictor.network_count, 'network')} in one file. {_description(predictor)}",
        preparation,
    ]
    replacements = {
        "RUN": predictor.run.name,
        "NETWORK_SHAPE": ", ".join(map(str, predictor.input_shape)),
        "SHAPE": _shape(predictor),
        "SIZE": str(math.prod(predictor.input_shape)),
    }
    for form, description in FORMATS.items():
        path, usage = _path(folder, predictor, form), description.usage
        if path.exists():
            for name, text in replacements.items():
                usage = usage.replace(name, text)
            lines.append(f"## {path.name}\n{usage}")
    return "\n\n".join(lines)
