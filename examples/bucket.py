"""A cache in a bucket: build straight into it, then read features from it on any machine.

    pip install 'armada-distill[demo,s3]'
    export AWS_PROFILE=team                     # or whatever your credentials are in
    python examples/bucket.py s3://team/cache prompts.txt

Several people may build into one bucket at once: what one has committed, the others don't draw again. The second run
of this script makes no call. For other servers than Amazon's, set AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from teacher_cache import Cache, build, choose, open_encoder, open_features, open_teacher, read_prompts


def main(words: Sequence[str] | None = None) -> None:
    """Build the prompts of a file into a cache at a URL, and read their features back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="s3://BUCKET/FOLDER, hf://buckets/OWNER/NAME, or a folder")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--teacher", default="pictogram")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    options = parser.parse_args(words)

    prompts = read_prompts(options.prompts)
    cache = Cache(options.url, create=True)
    report = build(cache, prompts, open_teacher(options.teacher), open_encoder(options.encoder))
    print(f"{report.calls} calls, {report.drawn} pictures, {report.encoded} features into {options.url}")

    features = open_features(cache, *choose(cache, None, None))  # decoded once on this machine, memory-mapped
    rows = features.rows_of(prompts)
    vectors = features.take(rows[rows >= 0])  # (n, L), each row checked against its checksum
    print(f"{len(vectors)} of {len(prompts)} prompts have a feature of {vectors.shape[1]} numbers")


if __name__ == "__main__":
    main()
