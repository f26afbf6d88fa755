"""Answers, each whole in one event. Streams take the other way: run.sh."""

from __future__ import annotations

from functions._app import buffered

handler = buffered()
