"""Export a run as one file for other runtimes: `python src/export.py RUN --format onnx`."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
import os
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path

from digits.console import BadInput, entry_point, flag_parser

FORMATS = ("onnx", "litert", "saved-model", "keras", "h5")


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Export, and print how the file compares with the run."""
    parser = flag_parser(
        "export.py",
        "Write all networks of a run as one file, from uint8 images to probabilities, and check it in its own runtime.",
        "onnx and litert need: pip install -r requirements-export.txt.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="Name or folder of a run or blend")
    formats = "One of onnx (browsers, C++, C#), litert (phones), saved-model, keras, h5 (first network, mnistModel2.h5)"
    add("--format", choices=FORMATS, required=True, help=formats)
    add("--tta", action=BooleanOptionalAction, default=False, help="Include test-time augmentation")
    add("--out", type=Path, metavar="FOLDER", help="Folder to write to (default: export/ in the run's folder)")
    add("--trust", action="store_true", help="Execute the run's own network file, if it is new on this machine")
    flags = parser.parse_args(argv)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # Of which the converters know; saved networks are the same on all.
    from digits.inference.export import export, require_packages
    from digits.inference.predictor import Predictor
    from digits.runs.store import find_run

    if flags.tta and flags.format == "h5":
        raise BadInput("--tta: expected no such flag with --format h5, which holds the first network as it is.")
    require_packages(flags.format)
    predictor = Predictor(find_run(flags.run), tta=flags.tta, trust=flags.trust)
    print("\n".join(export(predictor, flags.format, flags.out)))


if __name__ == "__main__":
    sys.exit(main())
