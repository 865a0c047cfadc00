"""Stage one: ask a text-to-image teacher once, keep its pictures and their features in immutable shards.

The names below are the public ones; `distill` and `pipelines` use no others.
"""

from teacher_cache.builder import BuildOptions, BuildReport, build
from teacher_cache.cache import Cache, Source, source_of
from teacher_cache.cache_status import TeacherStatus, status
from teacher_cache.encode import read_pictures
from teacher_cache.encoders import Encoder, open_encoder
from teacher_cache.errors import ArmadaError, CacheError, CoverageError, MissingPackageError, PromptError, SpecError
from teacher_cache.keys import canonical_json, image_key, prompt_key, sha256, spec_digest
from teacher_cache.packaged import minilm_folder, package_file, quiet_transformers
from teacher_cache.plan import Plan, make_plan
from teacher_cache.progress_bar import progress
from teacher_cache.prompts import check_prompts, read_csv, read_prompts, read_rows
from teacher_cache.reader import Features, choose, failure_reasons, open_features
from teacher_cache.teachers import Failure, Picture, Request, Teacher, open_teacher

__all__ = [
    "ArmadaError",
    "BuildOptions",
    "BuildReport",
    "Cache",
    "CacheError",
    "CoverageError",
    "Encoder",
    "Failure",
    "Features",
    "MissingPackageError",
    "Picture",
    "Plan",
    "PromptError",
    "Request",
    "Source",
    "SpecError",
    "Teacher",
    "TeacherStatus",
    "build",
    "canonical_json",
    "check_prompts",
    "choose",
    "failure_reasons",
    "image_key",
    "make_plan",
    "minilm_folder",
    "open_encoder",
    "open_features",
    "open_teacher",
    "package_file",
    "progress",
    "prompt_key",
    "quiet_transformers",
    "read_csv",
    "read_pictures",
    "read_prompts",
    "read_rows",
    "sha256",
    "source_of",
    "spec_digest",
    "status",
]
