"""Which section of docs/troubleshooting.md explains which errors: by the class, or else by the module that raises it.

`tests/docs/test_troubleshooting.py` fails for an error without a section, and for a section without an error.
"""

from __future__ import annotations

BY_CLASS = {
    "AwayError": "The teacher's server stops the build",
    "BudgetError": "The budget is reached",
    "CoverageError": "Rows without a feature",
    "DiskFullError": "Folders, disks and rights",
    "HopelessBatchError": "The teacher's server stops the build",
    "HopelessError": "The teacher's server stops the build",
    "InterruptedBuildError": "The teacher's server stops the build",
    "MissingPackageError": "A package is missing",
    "NoCacheError": "No cache, or nothing built in it",
    "NotBuiltError": "No cache, or nothing built in it",
    "PartError": "A copy that has a part only",
    "PictureError": "A picture cannot be read",
    "PromptError": "Files of prompts and rows",
    "StoredError": "Folders, disks and rights",
    "UnavailableStoreError": "Stores and URLs",
    "WrongBytesError": "Stores and URLs",
}

# A folder or a module; the longest name that fits decides.
BY_MODULE = {
    "distill/cards": "Task cards",
    "distill/controls": "Options of training",
    "distill/dataset": "Options of training",
    "distill/dataset/feature_files": "Features of your own",
    "distill/dataset/loader": "Your own script",
    "distill/dataset/own_features": "Features of your own",
    "distill/declared": "Options of training",
    "distill/objective": "Options of training",
    "distill/objective/finite": "Training diverges",
    "distill/students": "Students",
    "distill/students/evaluation": "Training diverges",
    "distill/students/machine_speed": "Options of training",
    "distill/tasks": "Rows, columns and labels",
    "distill/tasks/metrics": "Training diverges",
    "distill/training": "Options of training",
    "distill/training/checkpoints": "Another run is there",
    "distill/training/distributed": "Several processes",
    "distill/training/hf_trainer": "Your own script",
    "pipelines/cleaning": "Folders, disks and rights",
    "pipelines/commands": "Options of the commands",
    "pipelines/commands/caches/workers": "Workers and Ray",
    "pipelines/commands/prompts": "Rows, columns and labels",
    "pipelines/commands/training": "Options of training",
    "pipelines/files": "Folders, disks and rights",
    "pipelines/gallery": "The gallery",
    "pipelines/night": "Options of the commands",
    "pipelines/pilot": "Studies, reports and pilots",
    "pipelines/pretraining": "Options of training",
    "pipelines/run": "Options of training",
    "pipelines/run/places": "Folders, disks and rights",
    "pipelines/run/processes": "Several processes",
    "pipelines/study": "Studies, reports and pilots",
    "teacher_cache/batches": "Batches",
    "teacher_cache/batches/teacher": "Specs of teachers and encoders",
    "teacher_cache/building": "Options of the commands",
    "teacher_cache/building/answers": "An adapter of your own",
    "teacher_cache/building/batches": "Batches",
    "teacher_cache/building/completeness": "Files that are damaged or absent",
    "teacher_cache/building/drawing": "An adapter of your own",
    "teacher_cache/building/encoding": "An adapter of your own",
    "teacher_cache/building/rewriting/asking": "An adapter of your own",
    "teacher_cache/building/rewriting/drawn": "Work in progress",
    "teacher_cache/building/rewriting/sealing": "Work in progress",
    "teacher_cache/building/spool_opening": "Work in progress",
    "teacher_cache/crews": "Workers and Ray",
    "teacher_cache/encoders": "Specs of teachers and encoders",
    "teacher_cache/errors": "Files that are damaged or absent",
    "teacher_cache/files": "Stores and URLs",
    "teacher_cache/files/disk": "Folders, disks and rights",
    "teacher_cache/files/user_folders": "Folders, disks and rights",
    "teacher_cache/format": "Files that are damaged or absent",
    "teacher_cache/format/recipes": "Specs of teachers and encoders",
    "teacher_cache/maintenance": "Files that are damaged or absent",
    "teacher_cache/maintenance/exporting": "Options of the commands",
    "teacher_cache/maintenance/recomputation": "Options of the commands",
    "teacher_cache/prompts": "Files of prompts and rows",
    "teacher_cache/reading": "Files that are damaged or absent",
    "teacher_cache/registry": "Specs of teachers and encoders",
    "teacher_cache/rewriting": "Specs of teachers and encoders",
    "teacher_cache/rewriting/rows": "Files that are damaged or absent",
    "teacher_cache/sharing": "Stores and URLs",
    "teacher_cache/spool": "Work in progress",
    "teacher_cache/spool/budget": "Options of the commands",
    "teacher_cache/storage": "Files that are damaged or absent",
    "teacher_cache/storage/workspace": "Folders, disks and rights",
    "teacher_cache/tables": "Files of prompts and rows",
    "teacher_cache/teachers": "Specs of teachers and encoders",
    "teacher_cache/text_files": "Files of prompts and rows",
}


def module_of(module: str) -> str | None:
    """Return the entry of BY_MODULE that decides for a module, such as `teacher_cache/spool/database`."""
    fitting = [name for name in BY_MODULE if module == name or module.startswith(f"{name}/")]
    return max(fitting, key=len) if fitting else None


def family_of(error: str, module: str) -> str | None:
    """Return the heading of the section that explains an error of this class from this module; None if none does."""
    entry = module_of(module)
    return BY_CLASS.get(error) or (BY_MODULE[entry] if entry else None)
