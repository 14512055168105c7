"""The page on which one draws a digit and sees what a run's networks make of it, served on this machine alone."""

import contextlib
import datetime
import json
import re
import sys
import threading
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from digits.console import BadInput, KitError, counted
from digits.data.image_files import NotADigitImage, as_image, read_image
from digits.data.image_form import shape_text
from digits.data.preparation import fit
from digits.files import OWN, atomic_write, display_path, kit_command
from digits.inference.predictions import Prediction, form_of, picture
from digits.inference.predictor import Predictor
from digits.report.html import render

MAX_BYTES = 50_000_000
"""Of an image that is sent; a phone's photographs have 3 to 15 MB."""
PORTS = range(8000, 8020)
"""Tried in turn where none is asked for."""
LOCAL = ("127.0.0.1", "localhost", "::1")


class TrainingImages:
    """A run's training images, to find those most like another image."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        """Take images uint8 (n, side, side, 1) and labels int (n,)."""
        self.images, self.labels, self.vectors = images, labels, self._vectors(images)

    @staticmethod
    def _vectors(images: np.ndarray) -> np.ndarray:
        """Return unit vectors float32 (n, side²/4): images at half their size, so that a small shift counts less."""
        half = images.shape[1] // 2
        blocks = images[:, : 2 * half, : 2 * half].reshape(len(images), half, 2, half, 2)
        vectors = blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)

    def most_similar(self, image: np.ndarray, label: int) -> np.ndarray:
        """Return the three images uint8 (3, side, side, 1) of a class most similar to `image`, by the cosine."""
        rows = np.flatnonzero(self.labels == label)
        similarity = self.vectors[rows] @ self._vectors(image[np.newaxis])[0]
        return self.images[rows[np.argsort(-similarity)[:3]]]


def training_images(predictor: Predictor) -> TrainingImages | None:
    """Return the training images of a run, or None where they are not on this machine."""
    with contextlib.suppress(KitError, OSError):
        train = predictor.record.load_data().train
        return TrainingImages(train.images, train.labels)
    return None


class DrawingServer(ThreadingHTTPServer):
    """Serves the page, predicts what is drawn, and keeps corrected images."""

    def __init__(self, predictor: Predictor, alike: TrainingImages | None, host: str, port: int, own: Path = OWN):
        """Bind to host and port, 0 for any free one; corrected images go into `own`, as LABEL/TIME.png."""
        record = predictor.record
        self.predictor, self.alike, self.own, self.lock = predictor, alike, own, threading.Lock()
        self.form, self.is_local = form_of(record), host in LOCAL
        count = sum(len(member.models) for member in predictor.members)
        scored_by = "held out" if record.held_out else "cross-validated"
        self.page = render(
            "draw.html.jinja",
            run=record.run,
            networks=counted(count, "network"),
            accuracy=f"{record.out_of_fold.accuracy:.2%} {scored_by}",
            classes=list(predictor.classes),
            alike=alike is not None,
            own=f"{display_path(own)}/",
        )
        super().__init__((host, port), _Handler)

    def handle_error(self, request, client_address) -> None:
        """Print one line of a request that failed; nothing where the browser has left."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            print(f"error: a request failed ({type(error).__name__}: {error})", file=sys.stderr)

    def predict(self, content: bytes) -> dict[str, Any]:
        """Return what the page shows of an image file: the prediction, or the problem with it."""
        try:
            prepared = fit(read_image(content), self.form)
        except NotADigitImage as error:
            return {"problem": str(error)}
        with self.lock:
            probabilities = self.predictor.probabilities(prepared.image[np.newaxis])[0]
        classes = self.predictor.classes
        top = Prediction.of(probabilities, classes)
        similar = []
        if self.alike:
            for name in (top.answer, top.runner_up):
                images = self.alike.most_similar(prepared.image, classes.index(name))
                similar.append({"name": name, "images": [picture(as_image(image)) for image in images]})
        return {
            "answer": top.answer,
            "probabilities": [round(float(share), 4) for share in probabilities],
            "seen": picture(as_image(prepared.image)),
            "notes": top.notes(prepared),
            "similar": similar,
        }

    def keep(self, content: bytes, label: str) -> Path:
        """Write an image file, upright, as OWN/LABEL/TIME.png, and return its path.

        Raises BadInput if there is no such class, or it is not an image.
        """
        if label not in self.predictor.classes:
            raise BadInput(f"expected one of {', '.join(self.predictor.classes)}, found {label[:20]!r}")
        try:
            pixels = read_image(content)
        except NotADigitImage as error:
            raise BadInput(str(error)) from None
        folder = self.own / label
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{datetime.datetime.now():%Y%m%d-%H%M%S-%f}.png"
        with atomic_write(path) as temporary:
            as_image(pixels).save(temporary, "PNG")
        return path


class _Handler(BaseHTTPRequestHandler):
    """One request; other pages in the same browser get nothing, whatever name they have for this machine."""

    server: DrawingServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        """Say nothing of requests."""

    def _is_foreign(self) -> bool:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        name = re.sub(r":\d*$", "", host).strip("[]")
        return (self.server.is_local and name not in LOCAL) or origin not in (None, f"http://{host}")

    def _answer(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True
        self._answer(reason.encode(), "text/plain", status)

    def do_GET(self):
        """Send the page."""
        if self._is_foreign():
            self._refuse(HTTPStatus.FORBIDDEN, "not from here")
        elif self.path == "/":
            self._answer(self.server.page.encode(), "text/html")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is only /")

    def do_POST(self):
        """Predict the image that is sent, or keep it."""
        size = self.headers.get("Content-Length", "")
        url = urllib.parse.urlsplit(self.path)
        if self._is_foreign():
            return self._refuse(HTTPStatus.FORBIDDEN, "not from here")
        if not size.isascii() or not size.isdigit() or int(size) > MAX_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_BYTES:,} bytes")
        content = self.rfile.read(int(size))
        try:
            if url.path == "/predict":
                return self._answer(json.dumps(self.server.predict(content)).encode(), "application/json")
            if url.path == "/save":
                label = urllib.parse.parse_qs(url.query).get("label", [""])[0]
                kept = {"file": display_path(self.server.keep(content, label))}
                return self._answer(json.dumps(kept).encode(), "application/json")
        except (KitError, OSError) as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        return self._refuse(HTTPStatus.NOT_FOUND, "there are only /predict and /save")


def open_server(predictor: Predictor, host: str, port: int | None) -> DrawingServer:
    """Return the server, bound to the port, or to the first free one of PORTS where none is asked for.

    Raises BadInput if the training images are no drawings, or no port can be had.
    """
    form = form_of(predictor.record)
    if not form.is_drawn:
        predict = kit_command("src/predict.py", predictor.run.name, "--images", "FOLDER")
        message = f"run {predictor.run.name}: expected a run on drawings, found photographs ({shape_text(form.shape)})"
        raise BadInput(message, fix=f"Predict image files: {predict}")
    alike = training_images(predictor)
    for candidate in PORTS if port is None else (port,):
        with contextlib.suppress(OSError, OverflowError):
            return DrawingServer(predictor, alike, host, candidate)
    tried = f"ports {PORTS.start} to {PORTS.stop - 1} are" if port is None else f"--port {port} is"
    raise BadInput(f"On {host} {tried} taken or not allowed. Choose another: --port 9000")
