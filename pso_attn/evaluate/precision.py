"""In which numbers a training step computes; weights, moments, losses and scores are float32."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import torch

from pso_attn.errors import ConfigurationError, DeviceError
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "precision",
        "categorical",
        "numbers that products of a training step are taken in: float32; tf32, float32 with a "
        "mantissa of 10 bits, on CUDA alone; or bf16, under torch.autocast",
        choices=("float32", "tf32", "bf16"),
        default="float32",
        neutral="float32",
        source="Micikevicius et al. 2017, arXiv 1710.03740; "
        "Kalamkar et al. 2019, arXiv 1905.12322",
    ),
)

# what says how float32 products round: since torch 2.9 each kind of product has its own switch,
# which older ones set as well; torch.compile asks both, and refuses a mix
_NEWER = "fp32_precision"
_MATMUL = torch.backends.cuda.matmul
_CUDNN: Any = torch.backends.cudnn
_ON_A_CPU: Any = torch.backends.mkldnn
_KINDS: list[Any] = [_MATMUL, _CUDNN.conv, _CUDNN.rnn] if hasattr(_MATMUL, _NEWER) else []


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigurationError for an unknown name, DeviceError where the device has none such."""
    known = [str(choice) for choice in KNOBS[0].choices]
    if precision not in known:
        raise ConfigurationError(f'precision "{precision}" is unknown; choose {", ".join(known)}')
    if precision == "tf32" and device.type != "cuda":
        raise DeviceError(
            f'precision "tf32" was asked for on {device}, and only CUDA devices have it; '
            'choose "float32" or "bf16", or --device cuda'
        )


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products round to tf32 within the block where asked, and nowhere else.

    By default PyTorch lets cuDNN's do so everywhere, its LSTM's among them. Nor does cuDNN attend
    within the block: with a mask its gradients may be NaN (PyTorch's issue 196678), and it plans
    anew, on the host, for each number of heads.
    """
    if device.type != "cuda":
        yield
        return
    before, is_asked = _rounding(), precision == "tf32"
    torch.set_float32_matmul_precision("high" if is_asked else "highest")
    _CUDNN.allow_tf32 = is_asked
    for kind in _KINDS:
        setattr(kind, _NEWER, "tf32" if is_asked else "ieee")
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        for put_back in before:
            put_back()


def _rounding() -> list[Callable[[], object]]:
    """Return what puts the switches back, older ones first, and what these set beside the newer.

    Where newer ones have made an older one unreadable, that of products is as PyTorch begins.
    """
    products = "highest"
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    found: list[Callable[[], object]] = [partial(torch.set_float32_matmul_precision, products)]
    attends = torch.backends.cuda.cudnn_sdp_enabled()
    found.append(partial(torch.backends.cuda.enable_cudnn_sdp, attends))
    newer = [*_KINDS, _ON_A_CPU.matmul] if _KINDS else []
    for owner, name in [(_CUDNN, "allow_tf32"), *((kind, _NEWER) for kind in newer)]:
        with suppress(RuntimeError):
            found.append(partial(setattr, owner, name, getattr(owner, name)))
    return found


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a model's products are taken in bf16 where asked.

    Weights are not cached in bf16: a recorded step could not renew the copies.
    """
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
