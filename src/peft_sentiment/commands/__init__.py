"""The commands, each with its arguments and what it does, in the order of the help.

A command imports what it needs when it is called, so that the help answers at once.
"""

from collections.abc import Callable
from typing import Any

from peft_sentiment.commands import (
    check,
    demo,
    doctor,
    experiments,
    export,
    push,
    report,
    run,
    saved,
    serve,
)

ADDERS: tuple[Callable[[Any], None], ...] = (
    run.add_run,
    run.add_train,
    saved.add_evaluate,
    saved.add_compare,
    saved.add_errors,
    report.add_report,
    push.add_push,
    export.add_export,
    saved.add_predict,
    demo.add_demo,
    serve.add_serve,
    saved.add_verify,
    check.add_check,
    experiments.add_methods,
    experiments.add_search,
    doctor.add_doctor,
)
"""What adds each command to the parser."""
