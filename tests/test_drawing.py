import base64
import http.client
import io
import json
import socket
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

import draw
import handwriting
from digits.console import BadInput
from digits.data import dataset
from digits.data.image_form import ImageForm
from digits.inference import predictor
from digits.inference.drawing import DrawingServer, TrainingImages, open_server


class Neighbours:
    """A predictor that needs no network: five nearest neighbours among the sample's images."""

    classes = tuple("0123456789")

    def __init__(self, images, labels):
        self.model = KNeighborsClassifier(5).fit(images.reshape(len(images), -1), labels)
        self.members = [SimpleNamespace(models=[Path("fold-1.keras")] * 5)]
        score = SimpleNamespace(accuracy=0.95)
        data = SimpleNamespace(form=ImageForm())
        self.record = SimpleNamespace(run="nearest", out_of_fold=score, held_out=False, data=data)
        self.run = SimpleNamespace(name="nearest")

    def probabilities(self, images):
        return self.model.predict_proba(images.reshape(len(images), -1)).astype(np.float32)


@pytest.fixture(scope="module")
def sample():
    return dataset.load("sample").train


@pytest.fixture(scope="module")
def running(sample, tmp_path_factory):
    """A server on a free port of 127.0.0.1, and the folder of the corrected images."""
    own = tmp_path_factory.mktemp("own")
    alike = TrainingImages(sample.images, sample.labels)
    with DrawingServer(Neighbours(sample.images, sample.labels), alike, "127.0.0.1", 0, own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def png(digit):
    file = io.BytesIO()
    handwriting.drawn("pen", digit).save(file, "PNG")
    return file.getvalue()


def test_the_page_names_the_run_and_asks_for_nothing_from_elsewhere(running):
    status, page = ask(running, "GET", "/")
    assert status == 200
    assert "5 networks of run <code>nearest</code>; accuracy 95.00% cross-validated" in page
    assert "https://" not in page
    assert "http://" not in page
    assert ask(running, "GET", "/other")[0] == 404


def test_a_drawing_is_answered_with_the_most_similar_training_images(running, sample):
    status, text = ask(running, "POST", "/predict", png(4))
    result = json.loads(text)
    assert status == 200
    assert result["answer"] == "4"
    assert len(result["probabilities"]) == 10
    assert [len(each["images"]) for each in result["similar"]] == [3, 3]
    assert result["similar"][0]["name"] == "4"
    shown = Image.open(io.BytesIO(base64.b64decode(result["similar"][0]["images"][0].partition(",")[2])))
    matches = (sample.images[..., 0] == np.asarray(shown)).all(axis=(1, 2))
    assert sample.labels[matches].tolist() == [4]


def test_what_is_no_digit_is_said(running):
    assert "not an image" in json.loads(ask(running, "POST", "/predict", b"no image")[1])["problem"]
    blank = io.BytesIO()
    Image.new("L", (50, 50), 255).save(blank, "PNG")
    assert "empty" in json.loads(ask(running, "POST", "/predict", blank.getvalue())[1])["problem"]


def test_a_corrected_image_is_kept_under_its_class_and_nowhere_else(running):
    status, text = ask(running, "POST", "/save?label=7", png(7))
    assert status == 200
    kept = Path(json.loads(text)["file"])
    assert kept.parent == running.own / "7"
    with Image.open(kept) as image:
        assert image.size == (300, 300)
    for label in ("11", "..", "../../etc", ""):
        status, text = ask(running, "POST", f"/save?label={label}", png(7))
        assert status == 400
        assert "expected one of 0, 1, 2" in text
    assert ask(running, "POST", "/save?label=7", b"no image")[0] == 400
    assert [path.name for path in running.own.iterdir()] == ["7"]


def test_other_pages_and_names_get_nothing(running):
    for host in ("evil.example", "[", "127.0.0.1.evil.example", ""):
        assert ask(running, "GET", "/", Host=host)[0] == 403
    assert ask(running, "GET", "/", Host="[::1]:8000")[0] == 200
    assert ask(running, "POST", "/save?label=1", png(1), Origin="http://evil.example")[0] == 403
    assert ask(running, "POST", "/predict", b"", Content_Length="99999999999")[0] == 413
    assert ask(running, "POST", "/predict", b"", Content_Length="-1")[0] == 413


def test_a_browser_that_leaves_during_a_prediction_leaves_no_traceback(running, monkeypatch, capsys):
    asked, left, answered = threading.Event(), threading.Event(), threading.Event()
    probabilities, shutdown_request = running.predictor.probabilities, running.shutdown_request

    def slowly(images):
        asked.set()
        left.wait(10)
        return probabilities(images)

    def finish(request):
        shutdown_request(request)
        answered.set()

    monkeypatch.setattr(running.predictor, "probabilities", slowly)
    monkeypatch.setattr(running, "shutdown_request", finish)
    with socket.create_connection(("127.0.0.1", running.server_port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # Closing resets.
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(png(4))}\r\n\r\n"
        client.sendall(head.encode() + png(4))
        assert asked.wait(10)
    left.set()
    assert answered.wait(10)
    assert capsys.readouterr().err == ""


def test_it_listens_on_this_machine_alone_and_says_when_a_port_is_taken(running, monkeypatch):
    assert running.socket.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr("digits.inference.drawing.training_images", lambda predictor: None)
    with pytest.raises(BadInput, match=f"--port {running.server_port} is taken or not allowed"):
        open_server(running.predictor, "127.0.0.1", running.server_port)
    with pytest.raises(BadInput, match="--port 99999 is taken or not allowed"):
        open_server(running.predictor, "127.0.0.1", 99999)


def test_without_any_run_it_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predictor.newest_run, "__defaults__", (tmp_path,))
    assert draw.main([]) == 2
    assert "python src/train.py --recipe quick" in capsys.readouterr().err
