"""The documentation is true where a program can tell: commands, flags, links, messages."""

import ast
import importlib
import re

import pytest

from digits.files import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "submissions" / "README.md"]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
STARTED_BY = {"quickstart": "train"} | {name: name for name in ("download", "submit", "push_kernel", "publish")}
"""The shell scripts that hand their flags to an entry point."""


def texts_of_the_code():
    """Return every text that the code can print, "…" in place of its variable parts, one a line."""
    texts = []
    for file in [*(ROOT / "src").rglob("*.py"), ROOT / "tests" / "test_kernel.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / "scripts").glob("*.sh")]
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.jinja")]
    return "\n".join(texts)


def test_every_message_in_troubleshooting_is_one_of_the_kits():
    texts = texts_of_the_code()
    messages = re.findall(r"^\| `([^`]+)`", TEXTS[ROOT / "docs" / "troubleshooting.md"], re.M)
    assert len(messages) > 25
    for message in messages:
        for fragment in (part.strip(" ',:/;") for part in message.split("…")):
            assert fragment in texts, f"{message!r}: no message contains {fragment!r}"


def anchors_of(text):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_the_pages_lead_somewhere():
    for page, text in TEXTS.items():
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
            if target.startswith(("http://", "https://")):
                continue
            path = (page.parent / target).resolve() if target else page
            assert path.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors_of(path.read_text(encoding="utf-8")), f"{page.name} links to {target}#{anchor}"


def flags_of(module, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(module).main(["--help"])
    return set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))


def test_every_command_in_the_pages_exists_and_has_the_flags(capsys):
    known = {}
    for page, text in TEXTS.items():
        for folder, name, ending, rest in re.findall(r"\b(src|scripts)/(\w+)\.(py|sh)\b([^\n`|]*)", text):
            command = f"{folder}/{name}.{ending}"
            assert (ROOT / command).exists(), f"{page.name}: there is no {command}"
            module = STARTED_BY.get(name) if ending == "sh" else name
            flags = set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest.split("#")[0]))
            if module and flags:
                known.setdefault(module, None)
                known[module] = known[module] or flags_of(module, capsys)
                assert flags <= known[module], f"{page.name}: {command} has no {', '.join(flags - known[module])}"
    assert {"train", "download", "submit", "benchmark"} <= known.keys()


def test_the_first_page_of_the_readme_has_the_command_to_start_with():
    lines = TEXTS[ROOT / "README.md"].splitlines()
    assert any(line.startswith("scripts/quickstart.sh") for line in lines[:35])
    assert "scripts/test.sh" in TEXTS[ROOT / "README.md"]


def test_the_pages_name_the_recipes_that_there_are():
    for page in ("docs/recipes.md", "CHANGELOG.md"):
        for recipe in (ROOT / "src" / "recipes").glob("*.toml"):
            assert f"`{recipe.stem}`" in TEXTS[ROOT / page], f"{page} does not name the recipe {recipe.stem}"
