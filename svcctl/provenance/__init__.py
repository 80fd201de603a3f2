"""What git and the environment say about who changes what: the client's claim, recorded beside the backend's own facts.

A repository may be anyone's, its configuration too, so git runs with everything off that would start another program
(`provenance.git`). Where there is no repository, no git (2.31 or newer) or no commit yet, answers are None: a project
needs none. A repository that git itself does not trust (it belongs to another user) is refused with the command that
allows it, by `commit_of` and `commits_of` alone: a deploy must not lose its commit unseen.

`import svcctl.provenance` imports neither GitPython (110 ms) nor subprocess.
"""

from svcctl.provenance.actor import actor
from svcctl.provenance.branches import branch, environment_name
from svcctl.provenance.commits import MAX_FILES, commit_of, commits_of
from svcctl.provenance.history import Compared, ahead_behind, ahead_behind_all, is_ancestor, log_between, resolve_commit
from svcctl.provenance.links import compare_link, public_remote

__all__ = [
    "MAX_FILES",
    "Compared",
    "actor",
    "ahead_behind",
    "ahead_behind_all",
    "branch",
    "commit_of",
    "commits_of",
    "compare_link",
    "environment_name",
    "is_ancestor",
    "log_between",
    "public_remote",
    "resolve_commit",
]
