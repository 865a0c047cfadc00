"""The public names of `distill` and the modules that define them; `__init__.py` imports each name on first use."""

from .cards.card_files import card_digest as card_digest, find_task as find_task
from .cards.cards import Card as Card, card_names as card_names, load_card as load_card
from .cards.yaml_files import parse_yaml as parse_yaml, read_yaml_value as read_yaml_value
from .controls import (
    CONTROL_NAMES as CONTROL_NAMES,
    UNDISTILLED as UNDISTILLED,
    controlled_settings as controlled_settings,
    find_control as find_control,
)
from .dataset.coverage import Coverage as Coverage
from .dataset.join import View as View, data_digest as data_digest, join as join, join_lazily as join_lazily
from .dataset.loader import Loader as Loader
from .dataset.mending import FileMending as FileMending, Mending as Mending, spec_text as spec_text
from .dataset.moving import on_device as on_device
from .dataset.order import generator_of as generator_of
from .dataset.own_features import open_own_features as open_own_features
from .dataset.tokens import Tokens as Tokens, default_length as default_length, tokenize as tokenize
from .dataset.windows import autocorrelation as autocorrelation
from .declared import Declared as Declared, check_settings as check_settings, setting as setting
from .objective.aligner import train_aligner as train_aligner, untrained_states as untrained_states
from .objective.aligner_store import aligner_states as aligner_states
from .objective.crossfit import CrossfitTargets as CrossfitTargets
from .objective.crossfit_store import crossfit_targets as crossfit_targets, whitening_of as whitening_of
from .objective.masked_targets import MaskedTargets as MaskedTargets
from .objective.targets import EpochTargets as EpochTargets, Targets as Targets, TeacherTargets as TeacherTargets
from .settings import (
    ARMADA_SETTINGS as ARMADA_SETTINGS,
    CROSSFIT_SETTINGS as CROSSFIT_SETTINGS,
    MANIFOLD_LOSSES as MANIFOLD_LOSSES,
    PAPER_ALIGNER as PAPER_ALIGNER,
    PAPER_LAYERS as PAPER_LAYERS,
    PAPER_SETTINGS as PAPER_SETTINGS,
    PRECISIONS as PRECISIONS,
    REGRESSIONS as REGRESSIONS,
    AlignerSettings as AlignerSettings,
    TrainSettings as TrainSettings,
    changes as changes,
)
from .students.evaluation import pooled_outputs as pooled_outputs, predict as predict, probe as probe
from .students.export import (
    adapter_card as adapter_card,
    export_student as export_student,
    model_card as model_card,
    save_without as save_without,
)
from .students.files.offline import is_random as is_random
from .students.files.pairs import check_pairs as check_pairs
from .students.files.student_files import pair_separator as pair_separator, student_identity as student_identity
from .students.files.weights import check_finite as check_finite
from .students.heads import task_head as task_head, widen_head as widen_head
from .students.loading import StudentSpec as StudentSpec, length_limit as length_limit, load_student as load_student
from .students.lora import check_adapter as check_adapter, save_adapter as save_adapter
from .students.machine_speed import (
    Precision as Precision,
    choose_precision as choose_precision,
    processor_name as processor_name,
)
from .students.masked_words import words_of as words_of
from .students.pooling import pooled_width as pooled_width
from .students.sharing import Shared as Shared
from .students.task_model import (
    TaskModel as TaskModel,
    finish_task_model as finish_task_model,
    open_task_model as open_task_model,
    with_length as with_length,
)
from .tasks.metrics import (
    indicators as indicators,
    question_scores as question_scores,
    score as score,
    score_texts as score_texts,
    text_scores as text_scores,
)
from .tasks.new_card import NewCard as NewCard, card_text as card_text, new_card as new_card
from .tasks.prompts import (
    column_prompts as column_prompts,
    label_beside as label_beside,
    training_prompts as training_prompts,
)
from .tasks.splits import Split as Split, Splits as Splits, load_splits as load_splits
from .training.activations import checkpoint_gradients as checkpoint_gradients
from .training.checkpoints import (
    BestEpoch as BestEpoch,
    Checkpoints as Checkpoints,
    identity_key as identity_key,
    refuse_another as refuse_another,
)
from .training.distributed import (
    is_sharded as is_sharded,
    shared_evaluation as shared_evaluation,
    wait_for_all as wait_for_all,
)
from .training.hf_trainer import DistilledModel as DistilledModel, targets_from_cache as targets_from_cache
from .training.pretraining import PretrainTargets as PretrainTargets, pretrain_student as pretrain_student
from .training.trainer import CheckpointConfig as CheckpointConfig, Epoch as Epoch, train_student as train_student
