"""The page that lists every setting, made from the settings' own words.

`make docs` writes it to docs/settings.md.
"""

from collections.abc import Iterator

from peft_sentiment.config import (
    SECTIONS,
    SERVICE_SECTION,
    ServiceSettings,
    SettingField,
    describe_kind,
    read_setting_fields,
)

INTRODUCTION = """# Settings

Every setting has a flag of `peft-sentiment run` and `train`, and a place in a TOML file
(`--config FILE`), in the section named here. A preset (`--preset`) is such a file in the package.
A flag overrides the file, the file overrides the preset. `--dry-run` prints what would be used.
Those of the last section are flags of `peft-sentiment serve` alone.

This page is made from the code by `make docs`.
"""


def render_settings_reference() -> str:
    """Return the page as Markdown."""
    return "\n".join([INTRODUCTION, *_render_sections()]).rstrip() + "\n"


def _render_sections() -> Iterator[str]:
    for section, settings_type in {**SECTIONS, SERVICE_SECTION: ServiceSettings}.items():
        yield f"## [{section}]\n\n{settings_type.__doc__}\n"
        yield "| setting | flag | value | default | what it does |\n|---|---|---|---|---|"
        yield from (_render_row(item) for item in read_setting_fields(section, settings_type))
        yield ""


def _render_row(item: SettingField) -> str:
    cells = (
        f"`{item.name}`",
        f"`{item.flag}`",
        describe_kind(item.kind),
        _render_default(item.default),
        item.explanation,
    )
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _render_default(default: object) -> str:
    if default is None or default == {}:
        return ""
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    print(render_settings_reference(), end="")
