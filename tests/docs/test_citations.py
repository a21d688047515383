"""What code and tests cite is in docs/: sections of the contract, rules and sections of the architecture."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("actors", "api", "base", "bench", "bus", "durable_workflow_server", "node", "store", "tests", "docs", "examples")
SUFFIXES = {".py", ".sql", ".md"}
DOCUMENTS = sorted(path.stem for path in (ROOT / "docs" / "contract").glob("*.md") if path.stem != "README")

NUMBER = r"[0-9]+(?:\.[0-9]+)?\b(?![0-9%])"
LIST = rf"{NUMBER}(?:(?: \([^)]{{1,20}}\))?(?:, and |, | and | to | or ){NUMBER}(?!\.[0-9]))*"
CITED = re.compile(rf"(?<![/\w-])({'|'.join(DOCUMENTS)})(?:\.md)?`?,? (?:section |sections )?({LIST})")
APPENDIX = re.compile(rf"({'|'.join(DOCUMENTS)})(?:\.md)?`? Appendix ([A-Z])")
RULE = re.compile(r"\barchitecture, rules? ([0-9]+)(?: to ([0-9]+))?")
LINE_START = re.compile(r"\n[ \t]*(?:#|--|\|)?[ \t]*")


@cache
def headings(document: str) -> frozenset[str]:
    """The numbers of a document's sections."""
    text = (ROOT / "docs" / "contract" / f"{document}.md").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^#+ (?:Appendix )?([0-9]+(?:\.[0-9]+)?|[A-Z](?:\.[0-9]+)?)\b", text, re.MULTILINE))


def sources() -> Iterator[Path]:
    """Every file that may cite."""
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES)


def in_one_line(path: Path) -> str:
    """The text with comments that go over several lines joined."""
    return LINE_START.sub(" ", path.read_text(encoding="utf-8"))


def citations(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of a document and a section."""
    for found in CITED.finditer(text):
        for number in re.findall(NUMBER, re.sub(r"\([^)]*\)", "", found[2])):
            yield found[1], number
    for found in APPENDIX.finditer(text):
        yield found[1], found[2]


def test_every_cited_section_exists() -> None:
    missing = []
    count = 0
    for path in sources():
        for document, number in citations(in_one_line(path)):
            count += 1
            if number not in headings(document):
                missing.append(f"{path.relative_to(ROOT)}: {document} {number}")
    assert not missing
    assert count > 400


# A section in parentheses, without the name of its document.
BARE = re.compile(rf"(?<![\w.=\])])\((?:section )?{LIST}\)")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a module, with the lines where they begin."""
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith(('"""', 'r"""'))):
                yield token.start[0], token.string


def test_every_citation_names_its_document() -> None:
    assert BARE.search("the wait (6.2, 6.4)") and not BARE.search("sleep(0.1) and (engine-semantics 6.2)")
    bare = [
        f"{path.relative_to(ROOT)}:{line}: {found[0]}"
        for path in sources()
        if path.suffix == ".py"
        for line, text in prose(path)
        for found in BARE.finditer(text)
        if "." in found[0]
    ]
    assert not bare


def test_every_cited_rule_of_the_architecture_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rules = {int(number) for number in re.findall(r"^([0-9]+)\. \*\*", text, re.MULTILINE)}
    cited = {int(n) for path in sources() for pair in RULE.findall(in_one_line(path)) for n in pair if n}
    assert len(cited) > 4 and cited <= rules


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sections_are_numbered_once(document: str) -> None:
    text = (ROOT / "docs" / "contract" / f"{document}.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^#+ ([0-9]+(?:\.[0-9]+)?)\b", text, re.MULTILINE)
    assert len(numbers) == len(set(numbers)) > 5


def test_lists_of_sections_are_read_to_their_end() -> None:
    text = "worker-protocol 4.7, 4.10 and 7.4; control-plane.md 5.7 to 5.12). engine-semantics 2.6 (V3), 3.2, 12.1."
    assert list(citations(text)) == [
        ("worker-protocol", "4.7"),
        ("worker-protocol", "4.10"),
        ("worker-protocol", "7.4"),
        ("control-plane", "5.7"),
        ("control-plane", "5.12"),
        ("engine-semantics", "2.6"),
        ("engine-semantics", "3.2"),
        ("engine-semantics", "12.1"),
    ]


def links(path: Path) -> Iterator[str]:
    """Targets of the relative links of a Markdown file, without their anchors."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            yield target.partition("#")[0]


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "README.md", ROOT / "examples" / "README.md"]
    broken = [
        f"{page.relative_to(ROOT)}: {target}" for page in pages for target in links(page) if not (page.parent / target).exists()
    ]
    assert not broken


PATH_OF_CODE = re.compile(
    r"`((?:actors|api|base|bench|bus|node|store|tests|docs|examples)/[A-Za-z0-9_/.-]+\.(?:py|sql|md|sh))(?:::?[^`]*)?`"
)


def test_files_that_pages_name_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "README.md", ROOT / "examples" / "README.md"]
    history = {ROOT / "CHANGELOG.md"}  # tells of files that were
    gone = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages
        if page not in history
        for name in PATH_OF_CODE.findall(page.read_text(encoding="utf-8"))
        if "NNNN" not in name and not (ROOT / name).exists()
    ]
    assert not gone


def test_files_that_comments_name_exist() -> None:
    """In SQL, migrations too: their text is not compared with what was applied."""
    named = re.compile(r"\b(?:actors|api|bench|bus|node|store|tests)/[a-z0-9_/]+\.(?:py|sql)\b")
    gone = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "store").rglob("*.sql")
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert not gone
