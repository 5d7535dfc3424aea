"""Words for what a verification has found."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peft_sentiment.evaluation.verification import Check

STYLES = {"pass": "green", "fail": "bold red", "refused": "yellow"}

Cell = tuple[str, str]
"""Method and model type."""


def show_checks(console: Console, title: str, checks: Sequence[Check]) -> None:
    """Show a line per check: its answer, the largest difference, and the labels that flip."""
    table = Table("check", "result", "largest difference", "labels that flip", "why")
    for check in checks:
        table.add_row(
            check.name,
            Text(check.status, STYLES[check.status]),
            "" if check.largest_difference is None else f"{check.largest_difference:.1e}",
            "" if check.flips is None else str(check.flips),
            Text(check.reason),
        )
    console.print(title, markup=False, highlight=False)
    console.print(table)


def render_matrix(cells: Mapping[Cell, Sequence[Check]]) -> str:
    """Return the table of method by model type as Markdown, with a reason for what is not a pass.

    A cell is a pass with the largest difference of logits in it, or `refused`, or `FAIL`.
    """
    methods, types = (list(dict.fromkeys(cell[i] for cell in cells)) for i in (0, 1))
    lines = [f"| method | {' | '.join(types)} |", f"|---|{'---|' * len(types)}"]
    lines += [
        f"| {method} | {' | '.join(_render_cell(cells.get((method, t), ())) for t in types)} |"
        for method in methods
    ]
    return "\n".join([*lines, "", *_list_reasons(cells)]) + "\n"


def _render_cell(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    if any(check.status == "fail" for check in checks):
        return "FAIL"
    if all(check.status == "refused" for check in checks):
        return "refused"
    gaps = [check.largest_difference for check in checks if check.flips is not None]
    return f"pass {max(gap for gap in gaps if gap is not None):.0e}"


def _list_reasons(cells: Mapping[Cell, Sequence[Check]]) -> list[str]:
    """Return a line for each check that did not pass, with all the cells it is true of."""
    where: dict[tuple[str, str, str], list[Cell]] = {}
    for cell, checks in cells.items():
        for check in checks:
            # That the fast path is not for a cell says nothing of the method.
            if check.status == "fail" or (check.status == "refused" and check.name != "fast path"):
                where.setdefault((check.status, check.name, check.reason), []).append(cell)
    return [
        f"- {status}, {name}: {reason} ({_join_cells(found, cells)})"
        for (status, name, reason), found in sorted(where.items())
    ]


def _join_cells(found: Sequence[Cell], cells: Mapping[Cell, Sequence[Check]]) -> str:
    """Return cells by method, with all their model types where they are not all there are."""
    types: dict[str, list[str]] = {}
    for method, model_type in found:
        types.setdefault(method, []).append(model_type)
    every = len({model_type for _, model_type in cells})
    return "; ".join(
        method if len(of_method) == every else f"{method} on {', '.join(of_method)}"
        for method, of_method in types.items()
    )
