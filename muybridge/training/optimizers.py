"""The optimizers of a recipe: AdamW, and Muon for the matrices of a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from muybridge.errors import UserError

#: Newton-Schulz coefficients that drive singular values to about 1 in five rounds (Jordan et al. 2024, "Muon").
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values come to lie in about 0.7 .. 1.2.

    Args:
        matrices: [N, rows, columns]; a matrix of zeros stays zero.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    # x_k+1 = (a + b G + c G^2) x_k with G = x_k x_k^T: all rounds happen on the small Gram matrices
    gram, product = x @ x.mT, None
    for done in range(rounds):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else polynomial @ product
        if done < rounds - 1:
            gram = polynomial @ gram @ polynomial
    x = x if product is None else product @ x
    return x.mT if tall else x


class Muon(torch.optim.AdamW):
    """Momentum whose update is orthogonalised, for groups with `matrices: True`; AdamW for the others.

    An update has the root mean square 0.2 of AdamW's, so one learning rate serves both (2502.16982 section 2.2).
    Convolutions count as matrices [out, in x kernel]. Weight decay is decoupled in both.

    Args:
        groups: parameter groups, each with "params" and "matrices".
        momentum: of the matrices (Nesterov).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95, **adamw: Any):
        super().__init__([{"momentum": momentum, **group} for group in groups], lr=lr, **adamw)

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # Adam's own expects a step count for every parameter

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is not None:
            raise ValueError("Muon takes no closure")
        gradients = {}
        for group in self.param_groups:
            if not group["matrices"]:
                continue
            for shape_mates in self._by_shape(group["params"]).values():
                self._update(shape_mates, group)
            for parameter in group["params"]:  # AdamW below passes over what has no gradient
                gradients[parameter], parameter.grad = parameter.grad, None
        super().step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient

    @staticmethod
    def _by_shape(parameters: list[Tensor]) -> dict[torch.Size, list[Tensor]]:
        found = defaultdict(list)
        for parameter in parameters:
            if hasattr(parameter, "full_tensor"):
                raise UserError(
                    "training.optimizer: muon needs whole matrices, but these are sharded over processes (FSDP); "
                    "use optimizer: adamw there"
                )
            if parameter.grad is not None:
                found[parameter.shape].append(parameter)
        return found

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        rate, beta = float(group["lr"]), group["momentum"]
        directions = []
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            average = state["momentum_buffer"].lerp_(gradient, 1 - beta)
            directions.append(torch.lerp(gradient, average, beta).flatten(1))
        updates = orthogonalise(torch.stack(directions).float())
        size = 0.2 * max(updates.shape[-2:]) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-rate * size)


def split_matrices(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable weights of linear and convolution layers with both sides at least 16, and all the rest."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights: list[nn.Parameter] = [cast(nn.Parameter, m.weight) for m in model.modules() if isinstance(m, layers)]
    matrices = {p: None for p in weights if p.requires_grad and min(p.flatten(1).shape) >= 16}
    return list(matrices), [p for p in model.parameters() if p.requires_grad and p not in matrices]


def make_optimizer(kind: str, model: nn.Module, **adamw: Any) -> torch.optim.Optimizer:
    """The optimizer of the model's trainable parameters.

    Args:
        adamw: lr, betas, weight_decay, eps.
    """
    if kind == "adamw":
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **adamw)
    matrices, rest = split_matrices(model)
    groups = [{"params": matrices, "matrices": True}, {"params": rest, "matrices": False}]
    return Muon([g for g in groups if g["params"]], **adamw)
