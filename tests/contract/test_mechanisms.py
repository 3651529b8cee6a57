"""Every built-in mechanism keeps the contract."""

from pso_attn.attention import MECHANISMS, LayerSettings
from pso_attn.testing.mechanisms import MechanismContract, make_layer


def settings(mechanism: str, particle: int, **own: object) -> LayerSettings:
    """Return settings in which the three particles of the suite differ as much as a group may."""
    return make_layer(
        mechanism,
        heads=2,
        head_dim=3,
        kv_heads=(2, 1, 2)[particle],
        temperature=((1.0, 1.0), (0.4, 2.3), (3.1, 0.8))[particle],
        decay=((0.0, 0.0), (0.0, 1.5), (0.7, 4.0))[particle],
        window_tokens=(None, (1, 0), (2, 90))[particle],
        softcap=(None, None, 3.0)[particle],
        dilation=(1, (1, 3), 2)[particle],
        attention_dropout=(0.0, 0.3, 0.6)[particle],
        **{"block_tokens": (None, None, 4)[particle], **own},
    )


class TestSoftmax(MechanismContract):
    kernel = MECHANISMS["softmax"]

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("softmax", particle, length=length)


class TestSoftmaxWithLearnedSpans(MechanismContract):
    kernel = MECHANISMS["softmax"]

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("softmax", particle, length=length, adaptive_span=True)


class TestTopK(MechanismContract):
    kernel = MECHANISMS["top_k"]

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("top_k", particle, length=length, top_k=(1, 3, 90)[particle])

    def shown(self, layer: LayerSettings) -> object:
        return (layer.top_k, super().shown(layer))


class TestSparse(MechanismContract):
    kernel = MECHANISMS["sparse"]
    alphas: tuple[float, ...] = (1.9, 1.1, 1.3)

    def layer(self, particle: int, length: int) -> LayerSettings:
        alpha = self.alphas[particle]
        return settings("sparse", particle, length=length, entmax_alpha=alpha)

    def shown(self, layer: LayerSettings) -> object:
        return (layer.entmax_alpha, super().shown(layer))


class TestSparseByDefault(TestSparse):
    alphas = (1.5, 1.5, 1.5)


class TestSparsemax(TestSparse):
    alphas = (2.0, 2.0, 2.0)


class TestTalkingHeads(MechanismContract):
    kernel = MECHANISMS["talking_heads"]
    averages = False  # mixed weights may have any sum
    separate = False

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("talking_heads", particle, length=length)


class TestRetention(MechanismContract):
    kernel = MECHANISMS["retention"]
    two_way = False
    averages = False  # it sums

    def layer(self, particle: int, length: int) -> LayerSettings:
        own = {"causal": True, "forgetting": (1.0, (0.0, 16.0), 30.0)[particle]}
        return settings("retention", particle, **own)

    def shown(self, layer: LayerSettings) -> object:
        return layer.forgetting


class TestBlockLowRank(MechanismContract):
    kernel = MECHANISMS["block_low_rank"]
    averages = False  # its rows are any sums of values

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("block_low_rank", particle, length=length, rank=1, block_tokens=2)

    def shown(self, layer: LayerSettings) -> object:
        return layer.sharpness


class TestLinear(MechanismContract):
    kernel = MECHANISMS["linear"]
    guard = 1e-5  # it adds 1e-6 to its denominators

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("linear", particle)

    def shown(self, layer: LayerSettings) -> object:
        return None  # it has no settings beyond its shape


class TestLowRank(MechanismContract):
    kernel = MECHANISMS["low_rank"]
    causal = False

    def layer(self, particle: int, length: int) -> LayerSettings:
        return settings("low_rank", particle, rank=self.rows(length))

    def rows(self, length: int) -> int:
        return max(1, length // 2)

    def shown(self, layer: LayerSettings) -> object:
        return layer.sharpness


def test_no_mechanism_is_left_out() -> None:
    suites = (
        *(TestSoftmax, TestTopK, TestSparse, TestTalkingHeads, TestLinear, TestRetention),
        *(TestLowRank, TestBlockLowRank),
    )
    assert {suite.kernel for suite in suites} == set(MECHANISMS.values())
