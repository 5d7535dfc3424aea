"""What is compared: methods by their names, and other settings from a file; torch-free."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_sentiment.config import METHODS, Settings
from peft_sentiment.errors import SettingsError, suggest

Overrides = Mapping[str, Mapping[str, Any]]
"""Section -> setting -> value."""

ALL = "all"


def collect_variants(
    methods: str | None, learning_rates: str | None, file: str | None, typed: Overrides
) -> dict[str, Overrides]:
    """Return what is to be compared, in the order given: methods, then what the file names.

    Args:
        methods: names with commas between, or `all`.
        learning_rates: name=rate with commas between, for those that need one of their own.
        file: TOML file of named settings.
        typed: settings for all; a learning rate among them is meant for every method.

    Raises:
        SettingsError: there is nothing to compare, a name is unknown or stands twice, or a value
            is malformed.
    """
    variants: dict[str, Overrides] = parse_methods(methods) if methods else {}
    for name, overrides in (load_variants(Path(file)) if file else {}).items():
        if name in variants:
            raise SettingsError(
                f"{file}: {name} is a method in --methods too. Give it another name."
            )
        require_comparable(name, overrides)
        variants[name] = overrides
    if not variants:
        raise SettingsError(
            "There is nothing to compare. Name methods, such as --methods lora,ia3,full, or a file "
            "of settings with --variants."
        )
    shared = {n: v for n, v in typed.get("training", {}).items() if n == "learning_rate"}
    if shared:
        variants = {
            name: {**overrides, "training": {**shared, **overrides.get("training", {})}}
            for name, overrides in variants.items()
        }
    return set_learning_rates(variants, learning_rates) if learning_rates else variants


def parse_methods(text: str) -> dict[str, Overrides]:
    """Read methods with commas between.

    Raises:
        SettingsError: one is unknown or stands twice.
    """
    names = list(METHODS) if text == ALL else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METHODS:
            raise SettingsError(
                f"--methods: there is no method {name!r}. {suggest(name, [*METHODS])}"
            )
        if names.count(name) > 1:
            raise SettingsError(f"--methods: {name} stands there twice. Name it once.")
    return {name: {"adapter": {"method": name}} for name in names}


def set_learning_rates(variants: Mapping[str, Overrides], text: str) -> dict[str, Overrides]:
    """Return variants with learning rates given as name=rate with commas between.

    Raises:
        SettingsError: a name is none of theirs, or a rate is no number.
    """
    changed = {name: dict(overrides) for name, overrides in variants.items()}
    for part in text.split(","):
        name, _, rate = (piece.strip() for piece in part.partition("="))
        if name not in changed:
            raise SettingsError(
                f"--learning-rates: {name!r} is not compared. {suggest(name, list(changed))}"
            )
        try:
            value = float(rate)
        except ValueError:
            raise SettingsError(
                f"--learning-rates: {part.strip()!r} must be name=number, such as {name}=5e-5."
            ) from None
        changed[name]["training"] = {**changed[name].get("training", {}), "learning_rate": value}
    return {**changed}


def require_comparable(name: str, overrides: Overrides) -> None:
    """Check that a variant trains and is tested on the reviews of all.

    Raises:
        SettingsError: it would not, or its name is no file name.
    """
    if not name or not all(sign.isalnum() or sign in "-_+." for sign in name) or name[0] == ".":
        raise SettingsError(
            f"variant {name!r}: a name has letters, digits, '-', '_', '+' and '.' only."
        )
    barred = {"data", "output", "evaluation"} & overrides.keys()
    chosen = [f"[{name}.{section}]" for section in sorted(barred)]
    chosen += [f"{name}.training.seed"] if "seed" in overrides.get("training", {}) else []
    if chosen:
        raise SettingsError(
            f"variant {name}: {chosen[0]} is the same for all that are compared. Take it out, and "
            "set it for all with its own flag."
        )


def require_alone(settings: Settings, name: str) -> None:
    """Check that a training is of an adapter alone, which is what experiments do.

    Args:
        settings: of the training.
        name: of what it is for, as messages name it.

    Raises:
        SettingsError: it is to have a companion, or reviews without labels.
    """
    asked = {
        "training.companion": settings.training.companion != "none",
        "data.unlabelled": settings.data.unlabelled is not None,
    }
    for setting, is_asked in asked.items():
        if is_asked:
            raise SettingsError(
                f"{name}: {setting} is for run and train; methods and search train the adapter "
                "alone. Leave it out here, and give it to the run."
            )


def load_variants(path: Path) -> dict[str, Overrides]:
    """Read a TOML file of variants: name -> section -> setting -> value.

    Raises:
        SettingsError: the file is missing or malformed.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: the variants can't be read ({error.strerror}). Give a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: this is not valid TOML: {error}. Correct the file."
        ) from error
    for name, sections in tables.items():
        if not isinstance(sections, dict) or not all(
            isinstance(s, dict) for s in sections.values()
        ):
            raise SettingsError(
                f"{path}: {name} must hold sections of settings. Write it as [{name}.adapter] with "
                "one setting a line below it."
            )
    return tables
