"""Branches: which one is checked out, and what an environment made for it is called."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from svcctl import names
from svcctl.provenance.git import Repository, find_trusted

_CI: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # set on this system, set for a tag, branches (that of a merge request first)
    ("GITHUB_ACTIONS", "", ("GITHUB_HEAD_REF", "GITHUB_REF_NAME")),
    ("GITLAB_CI", "CI_COMMIT_TAG", ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME")),
    ("BUILDKITE", "BUILDKITE_TAG", ("BUILDKITE_BRANCH",)),
    ("CIRCLECI", "CIRCLE_TAG", ("CIRCLE_BRANCH",)),
    ("BITBUCKET_BUILD_NUMBER", "BITBUCKET_TAG", ("BITBUCKET_BRANCH",)),
    ("TRAVIS", "TRAVIS_TAG", ("TRAVIS_PULL_REQUEST_BRANCH", "TRAVIS_BRANCH")),
    ("TF_BUILD", "", ("SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH")),
    ("APPVEYOR", "APPVEYOR_REPO_TAG_NAME", ("APPVEYOR_PULL_REQUEST_HEAD_REPO_BRANCH", "APPVEYOR_REPO_BRANCH")),
    ("DRONE", "DRONE_TAG", ("DRONE_SOURCE_BRANCH", "DRONE_BRANCH")),
    ("CI_SYSTEM_NAME", "CI_COMMIT_TAG", ("CI_COMMIT_SOURCE_BRANCH", "CI_COMMIT_BRANCH")),
    ("CIRRUS_CI", "CIRRUS_TAG", ("CIRRUS_BRANCH",)),
    ("SEMAPHORE", "SEMAPHORE_GIT_TAG_NAME", ("SEMAPHORE_GIT_PR_BRANCH", "SEMAPHORE_GIT_BRANCH")),
    ("JENKINS_URL", "TAG_NAME", ("CHANGE_BRANCH", "BRANCH_NAME", "GIT_LOCAL_BRANCH")),
)
_HASH = 6


def branch(folder: Path, environ: Mapping[str, str]) -> str | None:
    """The branch checked out around `folder`; where HEAD is detached, the one that the CI system says it builds."""
    repository = find_trusted(folder)
    return branch_of(repository, environ) if repository else None


def branch_of(repository: Repository, environ: Mapping[str, str]) -> str | None:
    answer = repository.git("symbolic-ref", "--quiet", "HEAD")
    if answer.status == 0:
        return answer.line.removeprefix("refs/heads/")
    return _built_by_ci(environ)


def _built_by_ci(environ: Mapping[str, str]) -> str | None:
    for system, tag, branches in _CI:
        if not environ.get(system) or environ.get(tag) or environ.get("GITHUB_REF_TYPE") == "tag":
            continue
        values = (environ.get(name, "").removeprefix("refs/heads/") for name in branches)
        # `refs/tags/v1` on one system, `12/merge` and `refs/pull/12/merge` on others: no branches.
        found = [value for value in values if value and not re.match(r"refs/|\d+/merge$", value)]
        if found:
            return found[0].encode(errors="replace").decode()
    return None


def environment_name(branch: str) -> str:
    """A valid name: lower case, every run of other characters one `-`. Six digits of a hash close it where it was cut
    or lost more than case and separators, so that such branches keep apart; `a/b` and `a-b` do share a name."""
    plain = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")
    lossless = re.sub(r"[/_.-]", "-", branch.lower()) == plain
    if lossless and names.check_name(plain) is None:
        return plain
    digest = hashlib.sha256(branch.encode(errors="surrogateescape")).hexdigest()[:_HASH]
    head = plain if plain[:1].isalpha() else f"b-{plain}".rstrip("-")
    return f"{head[: names.NAME_LENGTH - _HASH - 1].rstrip('-')}-{digest}"
