"""Programs that are clients of the loopback hub, each a process of its own with fresh caches."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GUARD_FOLDER = Path(__file__).parent / "guard"


@dataclass(frozen=True)
class HubClient:
    """A machine as a program sees it: a hub's address, and a folder that holds all its caches.

    It reaches loopback only. Programs run on it one after the other share the caches.
    """

    endpoint: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables to run a program with; no other setting of the hub's clients is kept."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
            and not name.lower().endswith("_proxy")
        }
        return {
            **kept,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home / "huggingface"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PEFT_SENTIMENT_CACHE": str(self.home / "peft-sentiment"),
            "PYTHONPATH": os.pathsep.join([str(GUARD_FOLDER), *_list_import_folders()]),
            "REFUSED_HOSTS_FILE": str(self.home / "refused-hosts"),
        }

    def run(
        self, command: list[str], timeout_seconds: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program and return what it wrote.

        Raises:
            AssertionError: it failed, and `check` is on.
        """
        self.home.mkdir(exist_ok=True)
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def run_python(self, code: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python code with this Python."""
        return self.run([sys.executable, "-c", code], check=check)

    def list_refused_hosts(self) -> list[str]:
        """Return every host but loopback that a program tried to reach."""
        log = self.home / "refused-hosts"
        return log.read_text(encoding="utf-8").split() if log.exists() else []


def _list_import_folders() -> list[str]:
    given = os.environ.get("PYTHONPATH", "")
    return [os.path.abspath(folder) for folder in given.split(os.pathsep) if folder]
