"""What a run saves is read by older versions of Keras, each in an environment of its own: Kaggle's images have such."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digits import config
from digits.model.backend import load_keras
from test_own_networks import OWN_HEAD, OWN_KINDS

SRC = Path(__file__).parents[1] / "src"
LOADED = """
import json, sys
from pathlib import Path
import keras, numpy as np
from digits.model.predict import load_network, predict_probabilities
folder = Path(sys.argv[1])
sources, predicted = json.loads((folder / "sources.json").read_text()), {}
for path in sorted(folder.glob("*.keras")):
    network = load_network(path, sources.get(path.stem))
    if path.stem not in sources:
        network = keras.models.load_model(path)  # The kit's networks load without the kit.
    predicted[path.stem] = predict_probabilities(network, np.load(folder / "images.npy")).tolist()
json.dump([keras.__version__, predicted], sys.stdout)
"""


@pytest.mark.slow  # It installs packages.
@pytest.mark.parametrize("version", ["3.8.0", "3.13.2"])
def test_saved_networks_predict_the_same_in_an_older_keras(version, tmp_path):
    load_keras()
    from digits.model.networks import build_network
    from digits.model.predict import predict_probabilities, save_network

    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    kinds = {kind: OWN_HEAD + text + "\n" for kind, text in OWN_KINDS.items() if kind != "tf.function"}
    sources = {kind.replace(" ", "-"): {"own.py": text} for kind, text in kinds.items()}
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    expected = {}
    for name in (*config.NETWORKS, *sources):
        function = "own.py:net" if name in sources else name
        network = build_network(function, (28, 28, 1), "mixed_bfloat16", sources=sources.get(name))
        expected[name] = predict_probabilities(network, images)
        save_network(network, tmp_path / f"{name}.keras")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    packages = [f"keras=={version}", "jax", "scipy", "numpy"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(SRC)}
    done = subprocess.run([python, "-c", LOADED, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    used, predicted = json.loads(done.stdout)
    assert used == version
    assert predicted.keys() == expected.keys()
    for name, probabilities in expected.items():
        assert np.allclose(predicted[name], probabilities, atol=0.02), name
