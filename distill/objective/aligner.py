"""The TS Aligner and its training. It maps teacher features to the labels of the task and into the shared manifold.

The aligner does not depend on the student: its training is a pure function of features, labels, settings and seed. It
is therefore trained once, in advance, and its state after every epoch is kept. Epoch e of the student uses state e,
which is equivalent to the alternating schedule of the paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.dataset.loader import Loader
from distill.dataset.moving import moved
from distill.dataset.sampled_features import FeatureTable
from distill.objective.finite import refuse_not_finite
from distill.objective.losses import Outputs, scores, task_loss
from distill.objective.orthogonal import CayleyDescent
from distill.settings import AlignerSettings
from teacher_cache import progress

State = dict[str, Tensor]


class Aligner(nn.Module):
    """Map (B, L) features to outputs for C classes.

    The projection is O z of the raw feature z, and not of the hidden layers (paper, section 3.2). With `relu`, the
    outputs of a regression pass a ReLU, as in the reference.
    """

    def __init__(self, features: int, labels: int, width: int, dropout: float = 0.1, relu: bool = False) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(features, width)
        self.hidden2 = nn.Linear(width, width)
        self.projection = nn.Linear(features, features, bias=False)  # orthogonal; see CayleyDescent
        self.head = nn.Linear(width, labels)
        self.aux_head = nn.Linear(features, labels)
        self.dropout = nn.Dropout(dropout)
        self.relu = relu
        self.projection.weight.requires_grad_(False)

    def initialise(self, seed: int) -> None:
        """Initialise weights from N(0, 0.02), biases with 0 and O with a random orthogonal matrix.

        Global random generators are not changed.
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.hidden1, self.hidden2, self.head, self.aux_head):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.orthogonal_(self.projection.weight, generator=generator)

    def forward(self, features: Tensor) -> Outputs:
        """Return the outputs for (B, L) float32 features."""
        return self.outputs(features, self.project(features))

    def project(self, features: Tensor) -> Tensor:
        """Return O z, (B, L)."""
        return F.linear(features, self.projection.weight)

    def outputs(self, features: Tensor, projection: Tensor) -> Outputs:
        """Return the outputs for (B, L) features whose projection (B, L) is already computed."""
        hidden = self.dropout(self.hidden1(features).relu())
        hidden = self.dropout(self.hidden2(hidden).relu())
        logits, aux_logits = self.head(hidden), self.aux_head(self.dropout(projection))
        return Outputs(*scores(logits, aux_logits, self.relu), projection)


def train_aligner(
    features: FeatureTable,
    labels: Tensor,
    classes: int,
    epochs: int,
    settings: AlignerSettings,
    seed: int,
    key: str,
    max_local_bytes: int | None = None,
) -> list[State]:
    """Train an aligner and return its state (CPU, float32) after each epoch. Global random generators are not changed.

    Raise ArmadaError at the end of an epoch in which a loss was not finite.

    Args:
        features: (N, L).
        labels: (N,) class ids, or floats if `classes` is 1; the aligner is trained on their device.
        classes: C, the outputs of the aligner.
        epochs: how many epochs.
        settings: the optimiser and the size.
        seed: the seed of the initial weights, of dropout and of the order of rows.
        key: the digest of the data, which determines the order of rows together with the seed.
        max_local_bytes: the memory limit for features in shards, which are read in windows.
    """
    device = labels.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        relu = settings.regression == "relu"
        aligner = Aligner(features.shape[1], classes, settings.width, settings.dropout, relu)
        aligner.initialise(seed)
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
            for epoch in range(epochs):
                losses = []
                for batch in loader:
                    z, y = batch.features.float(), labels[moved(batch.rows, device)]
                    projection = aligner.project(z)
                    if rotation:
                        projection.requires_grad_()
                    loss = task_loss(aligner.outputs(z, projection), y, settings.gamma)
                    torch.autograd.backward(loss)
                    nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
                    optimizer.step()
                    if rotation:
                        rotation.step(projection.detach(), projection.grad)
                    optimizer.zero_grad(set_to_none=True)
                    losses.append(loss.detach())
                    bar.update()
                if losses:
                    refuse_not_finite(torch.stack(losses)[:, None], epoch * len(loader), "aligner", "--aligner-lr")
                if rotation:
                    rotation.restore()
                states.append(_state(aligner))
    return states


def untrained_states(features: int, classes: int, epochs: int, settings: AlignerSettings, seed: int) -> list[State]:
    """Return the initial state of `train_aligner` once per epoch: an aligner that was never trained."""
    with torch.device("meta"):
        aligner = Aligner(features, classes, settings.width)
    aligner.to_empty(device="cpu").initialise(seed)
    return [_state(aligner)] * epochs


@torch.no_grad()
def _state(aligner: Aligner) -> State:
    """Return copies of the weights by name, with O as a plain matrix."""
    state = {name: value for name, value in aligner.state_dict().items() if "parametrizations" not in name}
    state["projection.weight"] = aligner.projection.weight
    return {name: value.detach().cpu().clone() for name, value in state.items()}
