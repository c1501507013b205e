"""The process that reads what users' paths lead to, for a server: it is started by `own_files` and by nobody else.

What the questions take is loaded here once, and each is answered by a fork.
"""

from __future__ import annotations

from modescape import initial, kept_picture_checks, registry
from modescape.corruptions import frost, published
from modescape.datasets import here
from modescape.forks import answer_in_forks
from modescape.own_files import answer, prepare
from modescape.studies.ood import images

LOADED = (initial, kept_picture_checks, here, frost, published, images)  # a fork finds them here


def main() -> None:
    registry.load()
    prepare()
    answer_in_forks(answer)


if __name__ == "__main__":
    main()
