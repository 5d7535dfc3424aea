"""Python runs this at start when its folder is on PYTHONPATH: loopback only, refusals on file."""

import os

from loopback_only import refuse_other_hosts


def _write_refusal(host: str) -> None:
    with open(os.environ["REFUSED_HOSTS_FILE"], "a", encoding="utf-8") as log:
        log.write(host + "\n")


refuse_other_hosts(_write_refusal)
