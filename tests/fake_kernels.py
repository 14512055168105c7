"""Kaggle's notebooks, played on top of `fake_kaggle`: what was pushed, the states of a run one by one, its output."""

import json

STATUS, OUTPUT = "GetKernelSessionStatus", "ListKernelSessionOutput"


class FakeKernels:
    """Kernel calls of a FakeKaggle that has been started."""

    def __init__(self, kaggle, states=("QUEUED", "RUNNING", "COMPLETE"), failure=""):
        self.pushed: list[dict] = []
        self.states, self.failure, self.asked = list(states), failure, 0
        self._kaggle, self._others = kaggle, kaggle.answer
        kaggle.answer = self.answer
        kaggle.kernel["SaveKernel"] = {"url": "https://www.kaggle.com/code/someone/kit", "versionNumber": 1}

    def leaves(self, submission: bytes, log: str = "all is well\n") -> None:
        """Let the run leave a submission, and a log of one piece a line."""
        self._kaggle.archive = submission
        # What the server sends for any .zip is the archive; the client names the file after fileName.
        files = [{"url": "http://localhost/storage/output.zip", "fileName": "submission.csv"}] if submission else []
        pieces = [{"stream_name": "stdout", "time": 1.0, "data": line} for line in log.splitlines(keepends=True)]
        self._kaggle.kernel[OUTPUT] = {"files": files, "log": json.dumps(pieces)}

    def answer(self, method: str, request: dict) -> tuple[int, dict]:
        """Answer as Kaggle's kernel service would."""
        if method == "SaveKernel":
            self.pushed.append(request)
        if method == STATUS:
            state = self.states[min(self.asked, len(self.states) - 1)]
            self.asked += 1
            return 200, {"status": state} | ({"failureMessage": self.failure} if state == "ERROR" else {})
        return self._others(method, request)
