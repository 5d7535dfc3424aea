"""A page to try adapters on: base and tuned side by side, and the words that mattered.

It asks for nothing from outside: no fonts, no counters, no scripts but its own.
"""

import csv
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from rich.console import Console

from peft_sentiment.config import DataSettings
from peft_sentiment.data.checks import clean_text
from peft_sentiment.data.sources import iterate_text_rows
from peft_sentiment.data.utf8 import GZIP
from peft_sentiment.errors import DataError, PeftSentimentError, SettingsError, build_missing_error
from peft_sentiment.interruptions import termination_raised
from peft_sentiment.reporting.highlights import HighlightedReview, Piece, highlight
from peft_sentiment.reporting.terminal import say
from peft_sentiment.serving.showcase import SAMPLE_REVIEWS, Opinion, Showcase

MOST_FILE_REVIEWS = 2000
"""Reviews of a file that the page labels; more are for `peft-sentiment predict --file`."""

MOST_CHARACTERS = 100_000
"""Of a review typed into the page."""

MOST_FILE_SIZE = "20mb"

# An adapter is switched off while its base is asked.
ONE_AT_A_TIME = {"concurrency_id": "models", "concurrency_limit": 1, "api_visibility": "private"}

COLUMNS = ("review", "label", "confidence", "base says")

STYLE = """
.opinions {display: flex; flex-wrap: wrap; gap: 1rem}
.opinion {flex: 1 1 16rem; min-width: 0}
.opinion h3 {margin: 0 0 .5rem; font-size: 1rem}
.bar {margin: .35rem 0}
.bar .track {height: .9rem; border-radius: .45rem; background: rgba(128, 128, 128, .25)}
.bar .fill {height: 100%; border-radius: .45rem; background: #2563eb}
.base .fill {background: #8a8f98}
.bar .name {display: flex; justify-content: space-between; gap: 1rem; overflow-wrap: anywhere}
.words {line-height: 2; overflow-wrap: anywhere; white-space: pre-wrap}
.words .for {background: rgba(22, 163, 74, var(--strength)); border-radius: .2rem}
.words .against {background: rgba(220, 38, 38, var(--strength)); border-radius: .2rem;
  text-decoration: underline}
.words .unread {opacity: .5}
.note {margin-top: .75rem; opacity: .8; font-size: .9rem}
footer {display: none !important}
"""


def serve_page(showcase: Showcase, host: str, port: int, console: Console) -> None:
    """Show the page until Ctrl-C or SIGTERM; what visitors have sent and fetched goes with it.

    Args:
        showcase: the adapters.
        host: address to listen on.
        port: to listen on.
        console: told where the page is.

    Raises:
        SettingsError: Gradio is not installed, or the port is taken.
    """
    # SIGTERM may come as soon as the folder is there.
    with termination_raised(), tempfile.TemporaryDirectory(prefix="peft-sentiment-") as folder:
        page = launch_page(showcase, host, port, folder)
        say(console, f"The page is at {page.local_url} until Ctrl-C.")
        page.block_thread()


def launch_page(showcase: Showcase, host: str, port: int, folder: str) -> Any:  # noqa: ANN401
    """Start the page in threads of its own, and return Gradio's Blocks.

    Args:
        showcase: the adapters.
        host: address to listen on.
        port: to listen on.
        folder: for files that are sent to the page and fetched from it.

    Raises:
        SettingsError: as in `serve_page`.
    """
    # Both are read when Gradio is imported.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder}
    gradio = import_gradio()
    page = build_page(gradio, showcase)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=STYLE,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            ssr_mode=False,
            max_file_size=MOST_FILE_SIZE,
        )
    except OSError as error:
        raise SettingsError(
            f"--port {port}: can't listen on {host} ({error}). Choose another port."
        ) from error
    return page


def build_page(gradio: Any, showcase: Showcase) -> Any:  # noqa: ANN401 - a module, and its Blocks
    """Return the page of some adapters."""
    with gradio.Blocks(
        title="PEFT Sentiment", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
        gradio.Markdown("# Try your sentiment classifier")
        adapter = gradio.Dropdown(
            showcase.names,
            value=showcase.names[0],
            label="Adapter",
            visible=len(showcase.names) > 1,
        )
        with gradio.Tab("One review"):
            _add_single(gradio, showcase, adapter)
        with gradio.Tab("Several reviews"):
            _add_file(gradio, showcase, adapter)
    return page


def import_gradio() -> Any:  # noqa: ANN401 - a module
    """Return Gradio.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise build_missing_error(
            "The page needs", "Gradio", "demo", ", or leave out --web"
        ) from error
    return gradio


def _add_single(gradio: Any, showcase: Showcase, adapter: Any) -> None:  # noqa: ANN401
    text = gradio.Textbox(
        label="Review", lines=4, max_length=MOST_CHARACTERS, placeholder="Type or paste a review",
        elem_id="review",
    )  # fmt: skip
    button = gradio.Button("Label it", variant="primary", elem_id="label")
    gradio.Examples([[sample] for sample in SAMPLE_REVIEWS], [text], label="Samples")
    opinions = gradio.HTML(elem_id="opinions")
    words = gradio.HTML(elem_id="words")

    def answer(name: str, review: str) -> Iterator[tuple[str, str]]:
        """Show what is said at once, and the words as soon as they are known."""
        review = clean_text(review)
        if not review:
            yield str(escape("Type a review first.")), ""
            return
        try:
            opinion = showcase.label(name, [review])[0]
        except PeftSentimentError as error:
            yield str(escape(str(error))), ""
            return
        bars = render_opinion(opinion, name, showcase.describe_confidence(name, opinion))
        yield bars, str(escape("Looking for the words that mattered …"))
        yield bars, explain_words(showcase, name, review)

    for happens in (button.click, text.submit):
        happens(answer, [adapter, text], [opinions, words], **ONE_AT_A_TIME)


def _add_file(gradio: Any, showcase: Showcase, adapter: Any) -> None:  # noqa: ANN401
    source = gradio.File(
        label="CSV, TSV, JSON, JSONL or Parquet with a column of texts, or .txt with one a line",
        file_types=[".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"],
        elem_id="file",
    )
    form = _add_file_form(gradio)
    button = gradio.Button("Label the file", variant="primary", elem_id="label-file")
    message = gradio.HTML(elem_id="message")
    table = gradio.Dataframe(headers=list(COLUMNS), interactive=False, wrap=True, elem_id="table")
    download = gradio.DownloadButton("Download as CSV", interactive=False, elem_id="download")

    def answer(name: str, path: str | None, *written: str) -> tuple[str, list[list[str]], Any]:
        nothing = gradio.update(value=None, interactive=False)
        if not path:
            return str(escape("Choose a file first.")), [], nothing
        try:
            opinions, is_more = label_file(showcase, name, path, read_file_form(*written))
        except PeftSentimentError as error:
            # Where the page keeps the file is nothing to its visitor.
            return str(escape(str(error).replace(path, Path(path).name))), [], nothing
        rows = [list(render_row(opinion).values()) for opinion in opinions]
        said = f"{len(opinions):,} review{'' if len(opinions) == 1 else 's'} labelled."
        if is_more:
            said += f" The file has more; this page labels the first {MOST_FILE_REVIEWS:,}."
        table_path = write_table(opinions, Path(download.GRADIO_CACHE))
        return str(escape(said)), rows, gradio.update(value=str(table_path), interactive=True)

    asked = [adapter, source, *form]
    button.click(answer, asked, [message, table, download], **ONE_AT_A_TIME)


def _add_file_form(gradio: Any) -> list[Any]:  # noqa: ANN401 - a module, and its components
    """Add the fields that say how a file is written; messages name them by the flags."""
    unset = DataSettings()
    with gradio.Accordion("How the file is written", open=False, elem_id="form"):
        return [
            gradio.Textbox(unset.text_column, label="--text-column: column of the texts"),
            gradio.Textbox("", label="--delimiter: between the fields, if no comma or tab"),
            gradio.Textbox(unset.encoding, label="--encoding: such as cp1252 or utf-16"),
        ]


def read_file_form(text_column: str, delimiter: str, encoding: str) -> DataSettings:
    """Return how a file is written, as the page's fields say; an empty one says nothing.

    Raises:
        SettingsError: a field holds what can't be.
    """
    unset = DataSettings()
    return DataSettings(
        text_column=text_column.strip() or unset.text_column,
        delimiter=delimiter or None,
        encoding=encoding.strip() or unset.encoding,
    )


def label_file(
    showcase: Showcase, name: str, path: str, settings: DataSettings
) -> tuple[list[Opinion], bool]:
    """Label the first reviews of a file; also return whether it has more.

    Args:
        showcase: the adapters.
        name: of the one that labels.
        path: of the file.
        settings: how it is written.

    Raises:
        DataError: it can't be read.
    """
    if Path(path).suffix.lower() == GZIP:
        raise DataError(
            f"{Path(path).name}: unpack the file first; a small one may hold a huge one."
        )
    texts: list[str] = []
    for _, text in iterate_text_rows(Path(path), settings):
        if len(texts) == MOST_FILE_REVIEWS:
            return showcase.label(name, texts), True
        texts.append(text)
    return showcase.label(name, texts), False


def render_row(opinion: Opinion) -> Mapping[str, str]:
    """Return a line of the table, by column."""
    values = (
        opinion.text, opinion.label, f"{100 * opinion.confidence:.1f} %", opinion.base_label,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def write_table(opinions: list[Opinion], folder: Path) -> Path:
    """Write a table for downloading, in a folder of its own within another; return its path."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "labelled.csv"
    labels = list(opinions[0].tuned) if opinions else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", *(f"probability_{label}" for label in labels)])
        for opinion in opinions:
            writer.writerow([opinion.text, opinion.label, *opinion.tuned.values()])
    return path


def explain_words(showcase: Showcase, name: str, review: str) -> str:
    """Return a review with its words set off, as HTML, or what is missing to tell."""
    try:
        return render_words(highlight(showcase.explain(name, review)))
    except PeftSentimentError as error:
        return str(escape(str(error)))


def render_opinion(opinion: Opinion, name: str, meaning: str) -> str:
    """Return both models' probabilities as bars, in HTML; whatever a text holds is escaped."""
    cut = " It is longer than what is read; parts were left out." if opinion.is_cut else ""
    return str(
        Markup('<p>The review is labelled <strong>{}</strong>.</p><div class="opinions">{}{}</div>'
               '<p class="note">{}{}</p>').format(
            opinion.label,
            _render_bars(f"Tuned: {name}", opinion.tuned, "tuned"),
            _render_bars("Base, its head untrained", opinion.base, "base"),
            meaning,
            cut,
        )
    )  # fmt: skip


def _render_bars(title: str, probabilities: Mapping[str, float], kind: str) -> Markup:
    bars = Markup("").join(
        Markup('<div class="bar"><div class="name"><span>{}</span><span>{}</span></div>'
               '<div class="track"><div class="fill" style="width: {}%"></div></div></div>').format(
            label, f"{100 * share:.1f} %", f"{100 * share:.1f}"
        )
        for label, share in probabilities.items()
    )  # fmt: skip
    return Markup('<div class="opinion {}"><h3>{}</h3>{}</div>').format(kind, title, bars)


def render_words(review: HighlightedReview) -> str:
    """Return a review with the words that mattered set off, as HTML."""
    pieces = Markup("").join(_render_piece(piece) for piece in review.pieces)
    return str(
        Markup('<h3>The words that mattered</h3><p class="words">{}</p><p class="note">Green spoke '
               "for {}, red and underlined against it. The scores miss {} % of what they explain."
               "</p>").format(pieces, review.label, f"{100 * review.gap:.1f}")
    )  # fmt: skip


def _render_piece(piece: Piece) -> Markup:
    if not piece.is_read:
        return Markup('<span class="unread">{}</span>').format(piece.text)
    if piece.strength == 0:
        return escape(piece.text)
    side = "for" if piece.strength > 0 else "against"
    return Markup('<mark class="{}" style="--strength: {}; color: inherit">{}</mark>').format(
        side, f"{0.15 + 0.45 * abs(piece.strength):.2f}", piece.text
    )
