"""What every attention mechanism promises, as a suite of tests to inherit.

class TestMine(MechanismContract):
    kernel = Mine

    def layer(self, particle, length):
        return make_layer("mine", heads=2, head_dim=3, temperature=(0.4, 2.3))
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pso_attn.attention import Kernel, LayerSettings, Noise, read_layer
from pso_attn.attention.scores import Scores
from pso_attn.counter import DropRates, keys

PARTICLES, EXAMPLES = 3, 2
LENGTHS = (1, 2, 5, 67)  # tokens; the last is longer than the blocks of a scan
TOLERANCE = 1e-12  # in float64


def make_layer(
    mechanism: str, *, length: int = 10**4, causal: bool = False, **knobs: Any
) -> LayerSettings:
    """Return a layer's settings for T tokens: a tuple has one value a head."""
    listed = {
        name: [value] if isinstance(value, tuple) else value for name, value in knobs.items()
    }
    return read_layer({"mechanism": mechanism, "d_model": 64, **listed}, 0, length, causal)


def scaled(kernel: Kernel | Scores, q: Tensor) -> Tensor:
    """Return queries (P, B, H, T, d) as the kernel takes them."""
    return q if kernel.scale is None else q * kernel.scale[:, None, :, None, None]


def learned_apart(members: Sequence[LayerSettings], length: int) -> dict[str, list[Tensor]]:
    """Return what heads learn, at its start, by name: a tensor (1, H) for each who learns it."""
    found: dict[str, list[Tensor]] = {}
    for member in members:
        for own in member.learned(length, member.inner_dim):
            values = torch.tensor(own.mean, dtype=torch.float64).expand(1, member.heads)
            found.setdefault(own.name, []).append(values.clone().requires_grad_())
    return found


def assert_alike(found: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    """Assert that two float64 outputs are equal but for rounding, and all gradients too."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    pull = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator())
    pairs = (torch.autograd.grad(out, inputs, pull) for out in (found, expected))
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


class MechanismContract:
    """Inherit it in a class named `Test…`, name the kernel, and write `layer`.

    kernel: the mechanism. causal, two_way: whether it is defined for causal tasks, and for others.
    averages: whether its outputs are means of values. separate: whether heads do not mix. guard:
    by how much its weights may miss a sum of one, where a small number keeps it from dividing by
    zero.
    """

    kernel: type[Kernel]
    causal = True
    two_way = True
    averages = True
    separate = True
    guard = TOLERANCE

    def layer(self, particle: int, length: int) -> LayerSettings:
        """Return the settings of a particle from 0, one group for all, as different as can be."""
        raise NotImplementedError

    def rows(self, length: int) -> int:
        """Return how many keys and values the kernel is handed for a sequence of T tokens."""
        return length

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run tests that ask for `one_way` without a look ahead too, where that is defined."""
        if "one_way" in metafunc.fixturenames:
            ways = {"both ways": False} if self.two_way else {}
            ways |= {"causal": True} if self.causal else {}
            metafunc.parametrize("one_way", ways.values(), ids=ways.keys())

    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_values_and_gradients_are_finite_and_of_the_queries_shape(
        self, length: int, dtype: torch.dtype, one_way: bool
    ) -> None:
        """Output (P, B, H, T, d) in the inputs' dtype, for faint inputs and for loud ones."""
        for scale in (0.0, 1e-3, 1.0, 100.0):
            q, k, v = (x.mul(scale).requires_grad_() for x in self.operands(length, dtype))
            found = self.attend(range(PARTICLES), length, one_way, (q, k, v), dropout=True)
            assert found.shape == q.shape
            assert found.dtype == dtype
            assert bool(found.isfinite().all())
            gradients = torch.autograd.grad(found.sum(), (q, k, v), materialize_grads=True)
            assert all(bool(gradient.isfinite().all()) for gradient in gradients)

    def test_gradients_are_those_of_finite_differences(self, one_way: bool) -> None:
        """In float64, with and without dropout."""
        for dropout in (False, True):
            operands = tuple(x.requires_grad_() for x in self.operands(4))

            def attend(q: Tensor, k: Tensor, v: Tensor, dropout: bool = dropout) -> Tensor:
                return self.attend(range(PARTICLES), 4, one_way, (q, k, v), dropout)

            assert torch.autograd.gradcheck(attend, operands, fast_mode=True)

    @pytest.mark.parametrize("length", LENGTHS)
    def test_a_later_token_moves_no_earlier_output(self, length: int) -> None:
        """Change token t and those after it, slightly or wildly: not one bit before t moves."""
        for dtype in (torch.float32, torch.float64) if self.causal else ():
            before = self.operands(length, dtype)
            truth = self.attend(range(PARTICLES), length, True, before)
            for token in {0, 1, length // 2, length - 1} & set(range(length)):
                for amount in (0.1, 1e6):
                    after = tuple(x.clone() for x in before)
                    for x in after:
                        x[..., token:, :] += amount
                    found = self.attend(range(PARTICLES), length, True, after)
                    assert torch.equal(found[..., :token, :], truth[..., :token, :])
                    assert not torch.equal(found[..., token:, :], truth[..., token:, :])

    def test_every_token_is_looked_at(self) -> None:
        """Neither way round is causal: the last token moves the first output."""
        if not self.two_way:
            return
        q, k, v = self.operands(2)
        truth = self.attend([0], 2, False, (q[:1], k[:1], v[:1]))
        for x in (k, v):
            x[..., -1, :] += 1.0
        moved = self.attend([0], 2, False, (q[:1], k[:1], v[:1])) - truth
        assert bool((moved[..., 0, :] != 0).any())

    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("dropout", [False, True])
    def test_a_particle_gets_the_same_in_any_company(
        self, length: int, dropout: bool, one_way: bool
    ) -> None:
        """Alone, in another order, or beside its twin."""
        operands = self.operands(length)
        truth = self.attend(range(PARTICLES), length, one_way, operands, dropout)
        for company in ([0], [1], [2], [2, 0, 1], [1, 1, 0], [2, 1]):
            chosen = tuple(x[company] for x in operands)
            found = self.attend(company, length, one_way, chosen, dropout)
            torch.testing.assert_close(found, truth[company], rtol=0, atol=TOLERANCE)

    def test_particles_differ_in_their_results_where_they_differ_in_their_settings(
        self, one_way: bool
    ) -> None:
        """On the same inputs; settings that a mechanism has none of make no difference."""
        q, k, v = (x[:1].expand(PARTICLES, -1, -1, -1, -1) for x in self.operands(5))
        found = self.attend(range(PARTICLES), 5, one_way, (q, k, v))
        for particle in range(1, PARTICLES):
            differ = self.shown(self.layer(particle, 5)) != self.shown(self.layer(0, 5))
            assert torch.equal(found[particle], found[0]) != differ

    def shown(self, layer: LayerSettings) -> object:
        """Return those of the settings that the kernel's output depends on."""
        return (layer.sharpness, layer.sight)

    def test_examples_and_heads_do_not_mix(self, one_way: bool) -> None:
        """Change one example's head in one particle: no other output moves."""
        before = self.operands(5)
        truth = self.attend(range(PARTICLES), 5, one_way, before)
        after = tuple(x.clone() for x in before)
        for x in after:
            x[1, 0, 1] += 0.5
        moved = (self.attend(range(PARTICLES), 5, one_way, after) != truth).any(-1).any(-1)
        expected = torch.zeros_like(moved)
        expected[1, 0, slice(1, 2) if self.separate else slice(None)] = True
        assert torch.equal(moved, expected)

    def test_a_constant_value_is_returned_whatever_the_weights(self, one_way: bool) -> None:
        """Weights sum to one: every output is a mean of values."""
        if not self.averages:
            return
        q, k, v = self.operands(5)
        constant = torch.ones_like(v) * 0.75
        found = self.attend(range(PARTICLES), 5, one_way, (q, k, constant))
        torch.testing.assert_close(found, torch.full_like(found, 0.75), rtol=0, atol=self.guard)

    def test_what_is_prepared_follows_the_dtype_asked_for(self, one_way: bool) -> None:
        """Float32 agrees with float64 to its own rounding."""
        operands = self.operands(5)
        double = self.attend(range(PARTICLES), 5, one_way, operands)
        single = self.attend(range(PARTICLES), 5, one_way, tuple(x.float() for x in operands))
        torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)

    def attend(
        self,
        particles: Sequence[int],
        length: int,
        causal: bool,
        operands: tuple[Tensor, ...],
        dropout: bool = False,
    ) -> Tensor:
        """Return the kernel's output for these particles."""
        members = [self.layer(particle, length) for particle in particles]
        q, k, v = operands
        noise = None
        if dropout:
            rates = [member.drops.weights for member in members]
            key = keys(np.array(particles, dtype=np.int64), 1, 1)[0, 0]
            noise = Noise(key, DropRates.of(torch.tensor(rates, dtype=q.dtype)))
        learned = self.learned(members, particles, length, q)
        kernel = self.kernel(members, length, causal, q)
        return kernel(scaled(kernel, q), k, v, noise, learned)

    def learned(
        self,
        members: Sequence[LayerSettings],
        particles: Sequence[int],
        length: int,
        like: Tensor,
    ) -> dict[str, list[Tensor]]:
        """Return what particles that all learn the same have learned, each its own."""
        found = {}
        for own in members[0].learned(length, members[0].inner_dim):
            mean = torch.tensor(own.mean, dtype=torch.float64)
            whole = mean.numel() == prod(own.shape)
            start = mean.reshape(own.shape) if whole else mean.expand(own.shape)
            drawn = [
                start + torch.randn(own.shape, generator=rng, dtype=torch.float64) / own.shape[-1]
                for rng in map(torch.Generator().manual_seed, particles)
            ]
            found[own.name] = [torch.stack(drawn).to(like)]
        return found

    def operands(self, length: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Return q (P, B, H, T, d) and k, v (P, B, H, rows, d), from a fixed generator."""
        layer, rng = self.layer(0, length), torch.Generator().manual_seed(length)
        before = (PARTICLES, EXAMPLES, layer.heads)
        return tuple(
            torch.randn(*before, tokens, layer.head_dim, generator=rng, dtype=torch.float64).to(
                dtype
            )
            for tokens in (length, self.rows(length), self.rows(length))
        )
