"""The columns of rewritten prompts: what a rewriter made of a text, and what it cost."""

from __future__ import annotations

import pyarrow as pa

REWRITE_COLUMNS = pa.schema(
    [
        ("rewrite_key", pa.string()),
        ("prompt_key", pa.string()),
        ("prompt", pa.string()),
        ("rewritten", pa.string()),
        ("rewritten_sha256", pa.string()),
        ("model", pa.string()),  # that the server says has answered
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("seconds", pa.float64()),
        ("attempts", pa.int32()),
    ]
)
