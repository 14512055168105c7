"""What is known of the files that Kaggle's `digit-recognizer` gives: names, headers, rows and sha256 sums."""

from dataclasses import dataclass

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
ARCHIVE = "digit-recognizer.zip"
REMEDY = "Fetch the competition's files again: scripts/download.sh"


@dataclass(frozen=True)
class KnownFile:
    """One of the competition's files; its sha256 with CRLF line ends, as Kaggle serves it, and with LF."""

    name: str
    header: tuple[str, ...]
    rows: int
    sha256_crlf: str
    sha256_lf: str

    def form(self, sha256: str) -> str:
        """Say how a file with this sha256 relates to Kaggle's: "exact", "line ends changed" or "different data"."""
        return {self.sha256_crlf: "exact", self.sha256_lf: "line ends changed"}.get(sha256, "different data")


PIXEL_COLUMNS = tuple(f"pixel{index}" for index in range(PIXELS))
TRAIN = KnownFile(
    name="train.csv",
    header=("label", *PIXEL_COLUMNS),
    rows=42_000,
    sha256_crlf="b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed",
    sha256_lf="cc10cd2dcac4fa2b67b8e9b7c90019cb8669668ed11a1ea71d980418785b5b11",
)
TEST = KnownFile(
    name="test.csv",
    header=PIXEL_COLUMNS,
    rows=28_000,
    sha256_crlf="3353d136e718a01b18f4e2097d2f0bbd2676e5887b75b9497e35d34e90820013",
    sha256_lf="1e4c6240156c2316c012a655ff268e8b7f37b4a4dabe49853ab3a60af0ed1bca",
)
SAMPLE_SUBMISSION = KnownFile(
    name="sample_submission.csv",
    header=("ImageId", "Label"),
    rows=28_000,
    sha256_crlf="6ebaa8f99662433c2ad4fee65c76d8eb12ad627c3d2de1901704712e31bc0d9a",
    sha256_lf="84a8e5d1e7618cc08d544cfb78769be96e6f2ff8f50b03a39dd4d396300e1225",
)
FILES = {file.name: file for file in (TRAIN, TEST, SAMPLE_SUBMISSION)}
