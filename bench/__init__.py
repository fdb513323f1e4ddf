"""Measure what things cost. Each module runs alone: python -m bench.local_hit."""

import os

# The package for tests installs OpenTelemetry, and each load would be a span, which the peers do not make.
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
