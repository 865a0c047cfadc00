"""Stage one: request each picture from a text-to-image teacher once; keep pictures and features in immutable shards.

The names below are the public ones; `distill` and `pipelines` use no others.
"""

from teacher_cache.batches.teacher import sends_batches
from teacher_cache.building.builder import build, build_requests
from teacher_cache.building.encoding import encode
from teacher_cache.building.options import BuildOptions, BuildReport
from teacher_cache.building.plan import (
    Plan,
    batched,
    expected_price,
    expected_seconds,
    make_plan,
    missing_features,
    spent_so_far,
)
from teacher_cache.building.requests import Requests, make_requests
from teacher_cache.building.retrying import check_named, retry
from teacher_cache.building.rewriting.estimate import rewriting_usd
from teacher_cache.building.same_pictures import redraw_notes
from teacher_cache.crews.coordinator import build_by_workers
from teacher_cache.crews.crew import Crew
from teacher_cache.crews.processes import LocalCrew
from teacher_cache.crews.ray_actors import RayCrew
from teacher_cache.crews.ray_cluster import RayCluster, ray_options, settle_in
from teacher_cache.encoders import Encoder, open_encoder, source_of_encoder
from teacher_cache.errors import (
    ArmadaError,
    BudgetError,
    CacheError,
    CoverageError,
    MissingPackageError,
    NoCacheError,
    NotBuiltError,
    PictureError,
    PromptError,
    SpecError,
    did_you_mean,
    not_one_of,
)
from teacher_cache.files.atomic_files import atomic_file, atomic_write, sweep_drafts
from teacher_cache.files.disk import full_disk_in_words
from teacher_cache.files.urls import redact, without_secrets
from teacher_cache.files.user_folders import file_name, host_name, state_folder, user_folder
from teacher_cache.format.columns import IMAGE_COLUMNS
from teacher_cache.format.commits import Spent
from teacher_cache.format.pixels import as_png, open_picture, picture_suffix
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.recipes import Recipe, recipe_of
from teacher_cache.format.shards import ImageRow, feature_column, feature_matrix, feature_schema, is_sound
from teacher_cache.format.sources import Source, spec_to_type
from teacher_cache.keys import canonical_json, image_key, prompt_key, sha256, spec_digest
from teacher_cache.maintenance.built_prompts import built_prompts
from teacher_cache.maintenance.cache_status import TeacherStatus, status
from teacher_cache.maintenance.compaction import compact
from teacher_cache.maintenance.exporting import export
from teacher_cache.maintenance.merging import merge
from teacher_cache.maintenance.recomputation import recompute
from teacher_cache.maintenance.rewriter_status import RewriterStatus, rewriter_status
from teacher_cache.maintenance.verification import verify
from teacher_cache.progress_bar import progress
from teacher_cache.prompts import check_prompts, checked_prompts, iterate_prompts, read_prompts
from teacher_cache.reading.mapped_rows import MappedRows
from teacher_cache.reading.matrix_store import is_matrix_in_use, remove_matrix
from teacher_cache.reading.reader import Features, choose, failure_reasons, open_features
from teacher_cache.reading.rows import ChosenRows, FeatureRows
from teacher_cache.reading.shard_rows import ShardRows
from teacher_cache.registry.packages import minilm_folder, package_file, quiet_transformers
from teacher_cache.registry.recipe_options import with_recipe
from teacher_cache.rewriting import Rewriter, Rewritten
from teacher_cache.sharing.copying import Shared, pull, push, sync
from teacher_cache.sharing.selection import PullFilter
from teacher_cache.spool.run_log import Minute, Run
from teacher_cache.spool.spool_view import SpoolView, WaitingPicture, view_spool, waiting_picture
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.listing import Listing, failure_tables, feature_tables, image_tables, list_shards
from teacher_cache.storage.pictures import in_tar_order, index_rows, read_picture, read_pictures
from teacher_cache.storage.writing import commit_features, commit_pictures
from teacher_cache.tables import column_names, read_column, read_csv, read_rows
from teacher_cache.teachers import Failure, Picture, Request, Teacher, open_teacher, source_of_teacher
from teacher_cache.teachers.prices import Prices
from teacher_cache.teachers.prompt_window import BeyondWindow, PromptWindow, beyond_window, clip_window, count_beyond
from teacher_cache.teachers.providers.price_notes import PriceNotes, price_notes

__all__ = [
    "IMAGE_COLUMNS",
    "ArmadaError",
    "BeyondWindow",
    "BudgetError",
    "BuildOptions",
    "BuildReport",
    "Cache",
    "CacheError",
    "ChosenRows",
    "CoverageError",
    "Crew",
    "Encoder",
    "Failure",
    "FeatureRows",
    "Features",
    "ImageRow",
    "Listing",
    "LocalCrew",
    "MappedRows",
    "Minute",
    "MissingPackageError",
    "NoCacheError",
    "NotBuiltError",
    "Picture",
    "PictureError",
    "Plan",
    "PriceNotes",
    "Prices",
    "PromptError",
    "PromptWindow",
    "Provenance",
    "PullFilter",
    "RayCluster",
    "RayCrew",
    "Recipe",
    "Request",
    "Requests",
    "Rewriter",
    "RewriterStatus",
    "Rewritten",
    "Run",
    "ShardRows",
    "Shared",
    "Source",
    "SpecError",
    "Spent",
    "SpoolView",
    "Teacher",
    "TeacherStatus",
    "WaitingPicture",
    "as_png",
    "atomic_file",
    "atomic_write",
    "batched",
    "beyond_window",
    "build",
    "build_by_workers",
    "build_requests",
    "built_prompts",
    "canonical_json",
    "check_named",
    "check_prompts",
    "checked_prompts",
    "choose",
    "clip_window",
    "column_names",
    "commit_features",
    "commit_pictures",
    "compact",
    "count_beyond",
    "did_you_mean",
    "encode",
    "expected_price",
    "expected_seconds",
    "export",
    "failure_reasons",
    "failure_tables",
    "feature_column",
    "feature_matrix",
    "feature_schema",
    "feature_tables",
    "file_name",
    "full_disk_in_words",
    "host_name",
    "image_key",
    "image_tables",
    "in_tar_order",
    "index_rows",
    "is_matrix_in_use",
    "is_sound",
    "iterate_prompts",
    "list_shards",
    "make_plan",
    "make_requests",
    "merge",
    "minilm_folder",
    "missing_features",
    "not_one_of",
    "open_encoder",
    "open_features",
    "open_picture",
    "open_teacher",
    "package_file",
    "picture_suffix",
    "price_notes",
    "progress",
    "prompt_key",
    "pull",
    "push",
    "quiet_transformers",
    "ray_options",
    "read_column",
    "read_csv",
    "read_picture",
    "read_pictures",
    "read_prompts",
    "read_rows",
    "recipe_of",
    "recompute",
    "redact",
    "redraw_notes",
    "remove_matrix",
    "retry",
    "rewriter_status",
    "rewriting_usd",
    "sends_batches",
    "settle_in",
    "sha256",
    "source_of_encoder",
    "source_of_teacher",
    "spec_digest",
    "spec_to_type",
    "spent_so_far",
    "state_folder",
    "status",
    "sweep_drafts",
    "sync",
    "user_folder",
    "verify",
    "view_spool",
    "waiting_picture",
    "with_recipe",
    "without_secrets",
]
