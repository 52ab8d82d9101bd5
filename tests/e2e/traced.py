"""The tests' app under OpenTelemetry: spans go to a file, a line of JSON each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from .pgtasks import app
from .tasks import append

__all__ = ["app"]


class FileExporter(SpanExporter):
    """Safe in the children of a pool as well: each span is one write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            append(str(self.path), span.to_json(indent=None))
        return SpanExportResult.SUCCESS


def instrument(path: Path) -> TracerProvider:
    """Trace Celery and psycopg in this process."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter(path)))
    CeleryInstrumentor().instrument(tracer_provider=provider)
    PsycopgInstrumentor().instrument(tracer_provider=provider, enable_commenter=True)
    return provider


def uninstrument() -> None:
    """Trace no more."""
    CeleryInstrumentor().uninstrument()
    PsycopgInstrumentor().uninstrument()


if path := os.environ.get("PGJOBS_TEST_SPANS"):
    instrument(Path(path))
