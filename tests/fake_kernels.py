"""Kaggle's notebooks, played on top of `fake_kaggle`: what was pushed, the states of each version, its output."""

import json


class FakeKernels:
    """Kernel calls of a FakeKaggle."""

    def __init__(self, kaggle, states=("QUEUED", "RUNNING", "COMPLETE")):
        self.pushed: list[dict] = []
        self.states, self.output = list(states), {}
        kaggle.kernel |= {
            "SaveKernel": self._save,
            "GetKernelSessionStatus": self._status,
            "ListKernelSessionOutput": lambda request: self.output.get(self._version(request), {"files": []}),
        }

    def _status(self, request):
        newest = self._version(request) == len(self.pushed)
        return {"status": self.states.pop(0) if newest and len(self.states) > 1 else "COMPLETE"}

    def _save(self, request):
        self.pushed.append(request)
        return {"url": "https://www.kaggle.com/code/someone/kit", "versionNumber": len(self.pushed)}

    @staticmethod
    def _version(request):
        """Return the version that is asked for; without a label the first, as if Kaggle still answered for that."""
        digits = "".join(letter for letter in request.get("versionLabel", "1") if letter.isdigit())
        return int(digits or 1)

    def leaves(self, version, names, log="all is well\n"):
        """Let a version leave files, each with the content of the server's archive."""
        files = [{"url": f"http://localhost/storage/{version}.zip", "fileName": name} for name in names]
        pieces = [{"stream_name": "stdout", "time": 1.0, "data": line} for line in log.splitlines(keepends=True)]
        self.output[version] = {"files": files, "log": json.dumps(pieces)}
