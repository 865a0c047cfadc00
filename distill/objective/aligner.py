"""The TS Aligner: teacher features into the student's label space and into the shared manifold, and its training.

The aligner never sees the student: its training is a pure function of features, labels, settings and seed. So it runs
ahead, once, and keeps its state after every epoch. Student epoch e is taught by state e, which is what the paper's
alternating schedule comes to.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.dataset.loader import Loader
from distill.dataset.sampled_features import SampledFeatures
from distill.objective.losses import Outputs, positive_if_regression, task_loss
from distill.objective.orthogonal import CayleyDescent
from distill.settings import AlignerSettings
from teacher_cache import FeatureRows, progress

State = dict[str, Tensor]


class Aligner(nn.Module):
    """L features in, C labels out. The projection is O z of the raw feature, not of the hidden layers (paper, 3.2)."""

    def __init__(self, features: int, labels: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(features, width)
        self.hidden2 = nn.Linear(width, width)
        self.projection = nn.Linear(features, features, bias=False)  # orthogonal, no autograd: CayleyDescent moves it
        self.head = nn.Linear(width, labels)
        self.aux_head = nn.Linear(features, labels)
        self.dropout = nn.Dropout(dropout)
        self.projection.weight.requires_grad_(False)

    def start(self, generator: torch.Generator) -> None:
        """Weights from N(0, 0.02), biases 0, O a random orthogonal matrix: all from this generator."""
        for layer in (self.hidden1, self.hidden2, self.head, self.aux_head):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.orthogonal_(self.projection.weight, generator=generator)

    def forward(self, features: Tensor) -> Outputs:
        """(B, L) float32 features into outputs."""
        return self.read(features, self.project(features))

    def project(self, features: Tensor) -> Tensor:
        """O z, (B, L)."""
        return F.linear(features, self.projection.weight)

    def read(self, features: Tensor, projection: Tensor) -> Outputs:
        """The outputs of features whose projection is known. Regression outputs pass a ReLU, as the reference's do."""
        hidden = self.dropout(self.hidden1(features).relu())
        hidden = self.dropout(self.hidden2(hidden).relu())
        logits, aux_logits = self.head(hidden), self.aux_head(self.dropout(projection))
        return Outputs(*positive_if_regression(logits, aux_logits), projection)


def train_aligner(
    features: np.ndarray | Tensor | FeatureRows | SampledFeatures,
    labels: Tensor,
    classes: int,
    epochs: int,
    settings: AlignerSettings,
    seed: int,
    key: str,
    max_local_bytes: int | None = None,
) -> list[State]:
    """The aligner's states (CPU float32) after each epoch over (N, L) features and (N,) labels, on the labels' device.

    `key` is the digest of the data: it decides the order of the rows together with the seed. Features out of shards are
    read in windows within `max_local_bytes`. The global random generators are left as they were.
    """
    device = labels.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        aligner = Aligner(features.shape[1], classes, settings.width, settings.dropout)
        aligner.start(torch.Generator().manual_seed(seed))
        aligner.to(device).train()
        rotation = None
        if settings.rotation == "descent":
            rotation = CayleyDescent(aligner.projection.weight.data, settings.angle)
        else:
            aligner.projection.weight.requires_grad_(True)
            nn.utils.parametrizations.orthogonal(aligner.projection)
        parameters = [parameter for parameter in aligner.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
        states = []
        loader = Loader(features, key, settings.batch_size, seed=seed, device=device, max_local_bytes=max_local_bytes)
        with progress(epochs * len(loader), "aligner", "step") as bar:
            for _ in range(epochs):
                for batch in loader:
                    z, y = batch.features.float(), labels[torch.from_numpy(batch.rows).to(device)]
                    projection = aligner.project(z)
                    if rotation:
                        projection.requires_grad_()
                    loss = task_loss(aligner.read(z, projection), y, settings.gamma)
                    torch.autograd.backward(loss)
                    nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
                    optimizer.step()
                    if rotation:
                        rotation.step(projection.detach(), projection.grad)
                    optimizer.zero_grad(set_to_none=True)
                    bar.update()
                if rotation:
                    rotation.restore()
                states.append(_state(aligner))
    return states


def untrained_states(features: int, classes: int, epochs: int, settings: AlignerSettings, seed: int) -> list[State]:
    """The state that `train_aligner` starts from, once an epoch: an aligner that never saw a label."""
    with torch.device("meta"):
        aligner = Aligner(features, classes, settings.width)
    aligner.to_empty(device="cpu").start(torch.Generator().manual_seed(seed))
    return [_state(aligner)] * epochs


@torch.no_grad()
def _state(aligner: Aligner) -> State:
    """The weights by name, O as the matrix that it is."""
    state = {name: value for name, value in aligner.state_dict().items() if "parametrizations" not in name}
    state["projection.weight"] = aligner.projection.weight
    return {name: value.detach().cpu().clone() for name, value in state.items()}
