"""Stage one: ask a text-to-image teacher once, keep its pictures and their features in immutable shards.

The names below are the public ones; `distill` and `pipelines` use no others.
"""

from teacher_cache.builder import BuildReport, build
from teacher_cache.cache import Cache
from teacher_cache.cache_status import TeacherStatus, status
from teacher_cache.compaction import compact
from teacher_cache.disk import full_disk_in_words
from teacher_cache.encode import is_sound
from teacher_cache.encoders import Encoder, open_encoder
from teacher_cache.errors import (
    ArmadaError,
    BudgetError,
    CacheError,
    CoverageError,
    MissingPackageError,
    PromptError,
    SpecError,
)
from teacher_cache.exporting import export
from teacher_cache.keys import canonical_json, image_key, prompt_key, sha256, spec_digest
from teacher_cache.listing import Listing, failure_tables, feature_tables, image_tables, list_shards
from teacher_cache.merging import merge
from teacher_cache.options import BuildOptions
from teacher_cache.packaged import minilm_folder, package_file, quiet_transformers
from teacher_cache.pictures import in_tar_order, read_picture, read_pictures
from teacher_cache.plan import Plan, ask, expected_seconds, make_plan
from teacher_cache.progress_bar import progress
from teacher_cache.prompts import check_prompts, read_csv, read_prompts, read_rows
from teacher_cache.reader import Features, choose, failure_reasons, open_features
from teacher_cache.recomputation import recompute
from teacher_cache.retrying import retry
from teacher_cache.rows import ChosenRows, MappedRows, Rows, ShardRows
from teacher_cache.sources import Source, encoder_source, teacher_source
from teacher_cache.teachers import Failure, Picture, Request, Teacher, open_teacher
from teacher_cache.verification import verify

__all__ = [
    "ArmadaError",
    "BudgetError",
    "BuildOptions",
    "BuildReport",
    "Cache",
    "CacheError",
    "ChosenRows",
    "CoverageError",
    "Encoder",
    "Failure",
    "Features",
    "Listing",
    "MappedRows",
    "MissingPackageError",
    "Picture",
    "Plan",
    "PromptError",
    "Request",
    "Rows",
    "ShardRows",
    "Source",
    "SpecError",
    "Teacher",
    "TeacherStatus",
    "ask",
    "build",
    "canonical_json",
    "check_prompts",
    "choose",
    "compact",
    "encoder_source",
    "expected_seconds",
    "export",
    "failure_reasons",
    "failure_tables",
    "feature_tables",
    "full_disk_in_words",
    "image_key",
    "image_tables",
    "in_tar_order",
    "is_sound",
    "list_shards",
    "make_plan",
    "merge",
    "minilm_folder",
    "open_encoder",
    "open_features",
    "open_teacher",
    "package_file",
    "progress",
    "prompt_key",
    "quiet_transformers",
    "read_csv",
    "read_picture",
    "read_pictures",
    "read_prompts",
    "read_rows",
    "recompute",
    "retry",
    "sha256",
    "spec_digest",
    "status",
    "teacher_source",
    "verify",
]
