"""Names of models, as they are shown."""

TITLES = {
    "base": "Base",
    "majority": "Majority",
    "tfidf": "TF-IDF",
    "probe": "Probe",
    "full": "Full",
    "adapter": "Adapter",
    "peft": "PEFT",
}
"""Name in results.json -> as it is shown."""

COMPANION_NOTE = (
    "PEFT is the adapter with its companion: word counts (TF-IDF), weighed against it on the "
    "validation reviews. Adapter is without it."
)
"""Where a run has both."""


def name_model(name: str) -> str:
    """Return a model's name as it is shown; one that is not of our own is shown as it is."""
    return TITLES.get(name, name)
