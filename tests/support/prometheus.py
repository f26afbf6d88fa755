"""Prometheus's text, read as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return each sample's value by its name and its labels, of which empty ones are none."""
    return {
        (one.name, frozenset((k, v) for k, v in one.labels.items() if v)): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    """Return the value of a sample; None where there is none."""
    return samples(text).get((name, frozenset(labels.items())))


def names(text: str) -> set[str]:
    """Return the names of all samples."""
    return {name for name, _ in samples(text)}
