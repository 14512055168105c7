import ast
import re

import pytest

from digits.files import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"


def said_by_the_kit():
    """Return every text that the code can say, its variable parts cut out, one a line."""
    texts = []
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").glob("test_kernel.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / "scripts").glob("*.sh")]
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.jinja")]
    return "\n".join(texts)


def test_every_message_in_troubleshooting_is_one_that_the_kit_says():
    said = said_by_the_kit()
    messages = re.findall(r"^\| `([^`]+)`", TROUBLESHOOTING.read_text(encoding="utf-8"), re.M)
    assert len(messages) > 25
    for message in messages:
        for fragment in (part.strip(" ',:/;") for part in message.split("…")):
            assert fragment in said, f"{message!r}: the kit does not say {fragment!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
