"""Draw a digit in the browser and see what a run's networks make of it: `python src/draw.py [RUN]`."""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # With PYTHONSAFEPATH, Python itself does not.
import digits.environment  # noqa: F401, I001 first: it finds the Python that has the packages
from collections.abc import Sequence

from digits.console import entry_point, flag_parser


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    purpose = "Serve a page on which one draws a digit or drops a photograph, and sees the networks' prediction."
    parser = flag_parser("draw.py", purpose)
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="Name or folder of a run (default: the newest)")
    add("--port", type=int, metavar="N", help="Port of the page (default: the first free one from 8000 on)")
    host = "Address of the page (default: 127.0.0.1, this machine alone; 0.0.0.0: also for a phone in the network)"
    add("--host", default="127.0.0.1", metavar="ADDRESS", help=host)
    add("--trust", action="store_true", help="Execute the run's own network file, if it is new on this machine")
    flags = parser.parse_args(argv)
    from digits.inference.drawing import open_server
    from digits.inference.predictor import Predictor, newest_run
    from digits.runs.store import find_run

    predictor = Predictor(find_run(flags.run) if flags.run else newest_run(), trust=flags.trust)
    with open_server(predictor, flags.host, flags.port) as server:
        address = f"http://{flags.host.replace('0.0.0.0', '127.0.0.1')}:{server.server_port}/"
        print(f"Draw a digit for run {predictor.run.name}: {address}  (Ctrl-C ends it)", flush=True)
        if server.form.note:
            print(server.form.note, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nDone.")


if __name__ == "__main__":
    sys.exit(main())
