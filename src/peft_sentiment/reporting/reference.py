"""The page that lists every setting, made from the settings' own words.

`make docs` writes it to docs/settings.md.
"""

from collections.abc import Iterator

from peft_sentiment.config import (
    DEFAULT_PRESET,
    SECTIONS,
    SERVICE_SECTION,
    ServiceSettings,
    SettingField,
    describe_kind,
    list_presets,
    list_setting_fields,
    load_settings,
    read_setting_fields,
)

INTRODUCTION = """# Settings

Every setting has a flag of `peft-sentiment run` and `train`, and a place in a TOML file
(`--config FILE`), in the section named here. A preset (`--preset`) is such a file in the package.
A flag overrides the file, the file overrides the preset. `--dry-run` prints what would be used.
The default is that of the preset `{preset}`, which holds where no other is named; the table at the
end has what the others set otherwise. Settings of [service] are flags of `peft-sentiment serve`
alone.

This page is made from the code by `make docs`.
"""


def render_settings_reference() -> str:
    """Return the page as Markdown."""
    introduction = INTRODUCTION.format(preset=DEFAULT_PRESET)
    lines = [introduction, *_render_sections(), *_render_presets()]
    return "\n".join(lines).rstrip() + "\n"


def _render_sections() -> Iterator[str]:
    settings = load_settings()
    records = {section: getattr(settings, section) for section in SECTIONS}
    for section, record in {**records, SERVICE_SECTION: ServiceSettings()}.items():
        yield f"## [{section}]\n\n{record.__doc__}\n"
        yield "| setting | flag | value | default | what it does |\n|---|---|---|---|---|"
        yield from (_render_row(item) for item in read_setting_fields(section, record))
        yield ""


def _render_presets() -> Iterator[str]:
    """Yield the settings in which the presets differ, with the value of each."""
    presets = {DEFAULT_PRESET: load_settings()}
    presets |= {name: load_settings(name) for name in list_presets() if name not in presets}
    yield "## Presets\n\nIn all other settings they are alike.\n"
    yield f"| setting | {' | '.join(f'`{name}`' for name in presets)} |"
    yield f"|---|{'---|' * len(presets)}"
    for item in list_setting_fields():
        values = [getattr(getattr(preset, item.section), item.name) for preset in presets.values()]
        if any(value != values[0] for value in values):
            cells = (_render_default(value) or "by the encoder" for value in values)
            yield f"| `{item.section}.{item.name}` | {' | '.join(cells)} |"


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
