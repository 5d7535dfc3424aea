"""Looks for known vulnerabilities of the pinned dependencies, with pip-audit.

    make audit

It asks a service of the Python Packaging Authority for each pin of constraints.txt. Where the
network does not reach it, that is said, and nothing is known: the exit code is then 3, not 0.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent.parent / "constraints.txt"
UNREACHABLE = 3

_NETWORK = re.compile(
    r"ConnectionError|ConnectTimeout|Max retries|NewConnectionError|ProxyError|SSLError"
    r"|ServiceError|HTTPError|Name or service not known|Temporary failure in name resolution"
    r"|Not Found|Forbidden"
)


def audit() -> subprocess.CompletedProcess[str]:
    """Run pip-audit on the pins."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps",
               "--disable-pip", "--format", "json", "--progress-spinner", "off",
               "--timeout", "10"]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def report(done: subprocess.CompletedProcess[str]) -> int:
    """Say what was found; return the exit code: 0 nothing, 1 something, 3 not known."""
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no answer"]
        is_network = _NETWORK.search(done.stderr) is not None
        why = "the service can't be reached" if is_network else "pip-audit failed"
        print(f"Not checked: {why} ({lines[-1].strip()[:200]}).")
        return UNREACHABLE
    faults = [
        (one["name"], one["version"], fault) for one in found for fault in one.get("vulns", ())
    ]
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if len(skipped) == len(found):
        print(f"Not checked: none of the {len(found)} pins is known to the service that answers.")
        return UNREACHABLE
    for name, version, fault in faults:
        fixed = ", ".join(fault["fix_versions"]) or "no version"
        print(f"{name} {version}: {fault['id']}, mended in {fixed}")
    print(f"{len(found) - len(skipped)} pins checked, {len(faults)} known vulnerabilities; "
          f"not known to the service: {', '.join(skipped) or 'none'}")  # fmt: skip
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(report(audit()))
