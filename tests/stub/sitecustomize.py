"""Found first on PYTHONPATH, this replaces Keras by a softmax regression in every Python process of a test."""

import importlib.util

if importlib.util.find_spec("digits"):
    import stub_trainer

    stub_trainer.install()
