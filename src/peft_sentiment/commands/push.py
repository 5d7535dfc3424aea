"""`push`: an adapter and its card, to a hub."""

import argparse
from pathlib import Path
from typing import Any

from peft_sentiment.commands.flags import add_command, build_console


def add_push(commands: Any) -> None:  # noqa: ANN401 - argparse keeps this type to itself
    """Add `push`."""
    parser = add_command(commands, "push", "send an adapter and its card to the hub", run_push)
    parser.add_argument("adapter", metavar="DIR", help="folder of the adapter")
    parser.add_argument("repo_id", metavar="REPO_ID", help="owner/name on the hub")
    parser.add_argument("--dry-run", action="store_true", help="show what would go, and end")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--with-fingerprints",
        action="store_true",
        help="send the fingerprints of the training reviews too, by which one can find out whether "
        "a review was among them",
    )


def run_push(parsed: argparse.Namespace) -> None:
    """`peft-sentiment push`."""
    from peft_sentiment.publishing import pack_adapter, send_parcel, show_parcel

    console = build_console()
    parcel = pack_adapter(Path(parsed.adapter), parsed.repo_id, parsed.with_fingerprints)
    if parsed.dry_run:
        show_parcel(console, parcel)
        return
    with console.status(f"Sending {len(parcel.files)} files"):
        address = send_parcel(parcel, parsed.private)
    console.print(f"Sent: {address}", markup=False, highlight=False, soft_wrap=True)
