"""Which commit a folder lies in, compared with what git itself says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from artifactd.watching.commit import commit_of

GIT = shutil.which("git")


def git(folder: Path, *args: str) -> str:
    assert GIT is not None
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    done = subprocess.run([GIT, *who, *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-b", "main")
    git(folder, "commit", "--allow-empty", "-m", "one")
    return folder


def said(folder: Path) -> str | None:
    return commit_of(os.fsencode(folder))


def test_a_branch_loose_and_packed_and_no_branch(repository: Path) -> None:
    below = repository / "runs" / "r"
    below.mkdir(parents=True)
    assert said(below) == git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    assert said(below) == git(repository, "rev-parse", "HEAD")
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "commit", "--allow-empty", "-m", "two")
    assert said(below) == git(repository, "rev-parse", "HEAD") != first
    git(repository, "checkout", "--detach", first)
    assert said(below) == first


def test_a_worktree_has_a_head_of_its_own(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-b", "other", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "--allow-empty", "-m", "there")
    assert said(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    assert said(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD")


def test_what_is_no_repository_has_none_and_nothing_waits(tmp_path: Path) -> None:
    assert said(tmp_path / "gone") is None
    odd = tmp_path / "odd"
    odd.mkdir()
    os.mkfifo(odd / ".git")
    assert said(odd) is None
    (odd / ".git").unlink()
    (odd / ".git").write_text("gitdir: ../nowhere\n")
    assert said(odd) is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init")
    assert said(empty) is None, "before the first commit"


@pytest.mark.parametrize("head", ["ref: ../../secret", "ref: refs/../../../secret", "nothing", "ref: refs/heads/loop"])
def test_a_head_that_leads_elsewhere_is_not_followed(tmp_path: Path, head: str) -> None:
    (tmp_path / "secret").write_text("a" * 40 + "\n")
    (tmp_path / "r" / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "r" / ".git" / "HEAD").write_text(head + "\n")
    (tmp_path / "r" / ".git" / "refs" / "heads" / "loop").write_text("ref: refs/heads/loop\n")
    assert said(tmp_path / "r") is None


@pytest.mark.parametrize("link", ["refs/heads/key", "refs/heads", "refs", "HEAD", "packed-refs", "commondir"])
def test_a_link_in_a_repository_is_not_followed(link: str, tmp_path: Path) -> None:
    """Whoever owns the folder makes the repository in it; what the service may read is not for them to see."""
    secret = "b" * 64 + "\n"
    outside, git = tmp_path / "outside", tmp_path / "r" / ".git"
    (outside / "refs" / "heads").mkdir(parents=True)
    for path in ("key", "refs/heads/key", "HEAD"):
        (outside / path).parent.mkdir(parents=True, exist_ok=True)
        (outside / path).write_text(secret)
    (outside / "packed-refs").write_text(f"{secret.strip()} refs/heads/key\n")
    (outside / "commondir").write_text(f"{outside}\n")
    git.mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/key\n")
    if link.startswith("refs/"):
        (git / "refs").mkdir()
    if link.count("/") == 2:
        (git / "refs" / "heads").mkdir()
    (git / link).unlink(missing_ok=True)
    (git / link).symlink_to(outside / link)
    assert said(tmp_path / "r") is None
