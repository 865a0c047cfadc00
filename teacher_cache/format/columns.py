"""The columns of shards: of pictures, of failures, of features, and of rewritten prompts."""

from __future__ import annotations

import pyarrow as pa

IMAGE_COLUMNS = pa.schema(
    [
        ("image_key", pa.string()),
        ("prompt_key", pa.string()),
        ("prompt", pa.string()),
        ("sample", pa.int32()),
        ("image_sha256", pa.string()),
        ("suffix", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("cost_usd", pa.float64()),
        ("seconds", pa.float64()),
        ("attempts", pa.int32()),
    ]
)
FAILURE_COLUMNS = pa.schema(
    [
        ("image_key", pa.string()),
        ("prompt_key", pa.string()),
        ("prompt", pa.string()),
        ("sample", pa.int32()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int32()),
        ("cost_usd", pa.float64()),
    ]
)
DRAWN_PROMPT = pa.field("drawn_prompt", pa.string())  # a further column of the pictures of a teacher with a recipe
FEATURE_FACTS = pa.schema(
    [("image_key", pa.string()), ("image_sha256", pa.string()), ("prompt_key", pa.string()), ("sample", pa.int32())]
)
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
