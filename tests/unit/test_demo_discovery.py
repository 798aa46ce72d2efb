"""Which files the demo finds, and what their processes are called."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from pgprog.demo import corpus, discover
from pgprog.demo.discover import Candidate, distinct, everything_below, mixture
from pgprog.demo.formats import Format
from pgprog.demo.found import look_at


def names(root: Path) -> list[str]:
    return [found.name for found in everything_below(root).documents]


# ---- Everything below a directory ----


def test_every_file_below_a_directory_is_a_document(tmp_path: Path) -> None:
    root = tmp_path / "doc"
    (root / "a").mkdir(parents=True)
    (root / "a" / "guide.md").write_text("# Guide")
    (root / "same.md").write_text("# Guide")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")

    assert names(root) == ["doc/picture.png", "doc/same.md", "doc/a/guide.md"]


def test_a_single_file_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text("# Guide")

    assert names(tmp_path / "guide.md") == ["guide.md"]


def test_links_hidden_files_and_pipes_are_passed_by(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text("# Guide")
    (tmp_path / "link.md").symlink_to(tmp_path / "guide.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / ".hidden.md").write_text("no")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config.txt").write_text("no")
    os.mkfifo(tmp_path / "pipe")

    assert names(tmp_path) == [f"{tmp_path.name}/guide.md"]


def test_a_name_that_is_no_utf_8_is_unreadable(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("coffee")

    found = everything_below(tmp_path)

    assert found.unreadable == [path]
    assert found.documents == []


def test_a_file_that_may_not_be_read_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.txt").write_text("s")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    assert everything_below(tmp_path).unreadable == [tmp_path / "secret.txt"]


def test_a_file_that_vanished_or_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")

    assert look_at(tmp_path / "gone.txt", root=tmp_path) is None
    assert look_at(tmp_path, root=tmp_path) is None
    found = look_at(tmp_path / "pipe.txt", root=tmp_path)
    assert found is not None
    assert found.size == 0


# ---- Identity ----


def test_a_file_found_again_has_the_same_process(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text("# Guide")

    first, second = (everything_below(tmp_path).documents[0] for _ in range(2))

    assert first == second
    assert first.process_id == second.process_id
    assert first.process_id.startswith(f"{tmp_path.name}/guide.md@")


def test_a_changed_and_a_renamed_file_have_processes_of_their_own(tmp_path: Path) -> None:
    file, other = tmp_path / "guide.md", tmp_path / "manual.md"
    ids = set()
    for text in ("one", "two"):
        file.write_text(text)
        ids.add(everything_below(tmp_path).documents[0].process_id)
    file.rename(other)
    ids.add(everything_below(tmp_path).documents[0].process_id)

    assert len(ids) == 3


def test_a_long_name_is_shortened_to_256_bytes_and_stays_unique(tmp_path: Path) -> None:
    deep = tmp_path / ("ü" * 100) / ("ü" * 100)
    deep.mkdir(parents=True)
    for name in ("a.md", "b.md"):
        (deep / name).write_text("same")

    ids = [found.process_id for found in everything_below(tmp_path).documents]

    assert len(set(ids)) == 2
    assert all(len(process_id.encode()) <= 256 for process_id in ids)
    assert "a.md@" in ids[0]


# ---- The mixture ----


def test_of_files_with_the_same_content_one_is_chosen(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text("same" if name != "c.md" else "other")
    candidates = [Candidate(path, tmp_path) for path in sorted(tmp_path.iterdir())]

    chosen = distinct(candidates, most=10)

    assert [found.name[-4:] for found in chosen.documents] == ["a.md", "c.md"]
    assert chosen.duplicates == 1
    assert len(distinct(candidates, most=1).documents) == 1


def test_documentation_is_known_by_its_name(tmp_path: Path) -> None:
    for name in ("README", "changelog.Debian.gz", "a.pdf", "code.py", "top_level.txt", "b.html"):
        (tmp_path / name).write_bytes(b"x" * 64)
    (tmp_path / "tiny.md").write_bytes(b"x")

    found = {candidate.path.name for candidate in discover.documentation([tmp_path])}

    assert found == {"README", "changelog.Debian.gz", "a.pdf", "b.html"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a run was killed as it wrote the corpus, and another has written it."""
    home = tmp_path_factory.mktemp("home")
    (home / "corpus.killed" / "readers").mkdir(parents=True)
    (home / "corpus.killed" / "readers" / "0001.md").write_text("half a reader")
    corpus.write_corpus(home)
    return home


@pytest.mark.slow  # writes the corpus
def test_a_machine_without_documentation_has_a_thousand_documents(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discover, "machine_roots", list)

    documents = mixture(home).documents

    assert 1000 <= len(documents) <= discover.MOST_DOCUMENTS
    assert len({found.digest for found in documents}) == len(documents)
    assert len({found.process_id for found in documents}) == len(documents)
    assert sum(f"/{corpus.DAMAGED}/" in found.path for found in documents) >= 20
    counts = Counter(found.format_ for found in documents)
    assert all(counts[format_] >= 60 for format_ in Format)


@pytest.mark.slow  # reads documentation of the machine
def test_documentation_of_the_machine_comes_first_and_in_turns(home: Path, tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"page-{number}.html").write_text(f"<p>This is page number {number}." * 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discover, "machine_roots", lambda: [tmp_path])
        documents = mixture(home).documents

    counts = Counter(found.format_ for found in documents if found.path.startswith(str(tmp_path)))
    assert counts[Format.HTML] > 300
    assert sum(found.format_ is Format.PDF for found in documents) > 150


# ---- The corpus ----


@pytest.mark.slow  # writes the corpus again
def test_the_corpus_is_the_same_wherever_it_is_made(home: Path, tmp_path: Path) -> None:
    first, second = corpus.write_corpus(home), corpus.write_corpus(tmp_path)

    files = sorted(path.relative_to(first) for path in first.rglob("*"))
    assert files == sorted(path.relative_to(second) for path in second.rglob("*"))
    for file in files:
        if (first / file).is_file():
            assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.slow  # waits for the corpus
def test_what_a_killed_run_left_of_a_corpus_is_removed(home: Path) -> None:
    assert [path.name for path in home.iterdir()] == [corpus.write_corpus(home).name]


@pytest.mark.slow  # waits for the corpus
def test_a_corpus_that_is_there_is_left_alone(home: Path) -> None:
    there = corpus.write_corpus(home).stat()

    again = corpus.write_corpus(home).stat()

    assert (there.st_ino, there.st_ctime_ns) == (again.st_ino, again.st_ctime_ns)
