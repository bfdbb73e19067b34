"""Each peer's loss and gradient against a slow reference in plain Python, token by token."""

import importlib
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CORRECTED = {"correction": {"mask": "token", "low": 0.5, "high": 1.5, "weight": "chunk", "cap": 1.2}}
PENALISED = {"kl_weight": 0.3, "kl_reference": "initial", "entropy_weight": 0.1}
VARIANTS = {
    "reinforce": ({}, {"normalisation": "sum", **PENALISED}, {"normalisation": "chunk-mean", **CORRECTED}),
    "grpo": (
        {"normalisation": "token-mean", "clip_high": 0.28, "dual_clip": 1.4, **PENALISED},
        {"ratio_level": "trajectory", **CORRECTED},
        {"ratio_level": "chunk", "dual_clip": 1.1, "kl_weight": 0.2, "kl_reference": "old", "minibatches": 2},
    ),
    "gspo": (
        {"clip_low": 0.1, "clip_high": 0.2},
        {"clip_low": 0.1, "clip_high": 0.2, "dual_clip": 1.3, "variant": "token", **CORRECTED},
        {**PENALISED, "normalisation": "constant", "constant_length": 7},
    ),
    "ppo": (
        {},
        {"value_clip": None, "gamma": 0.9, "gae_lambda": 0.7, "normalisation": "trajectory-mean", **CORRECTED},
        {"gae_lambda": 1.0, "dual_clip": 1.5, **PENALISED},
    ),
    "tis": ({}, {"ratio_level": "trajectory", "cap": 0.9, **CORRECTED}, {"ratio_level": "chunk", **PENALISED}),
    "topr": ({}, {"ratio": "geometric-mean", "normalisation": "sum", **CORRECTED}, PENALISED),
    "cispo": ({"clip_high": 0.3}, {"clip_low": 0.2, "clip_high": 0.1, **CORRECTED}, PENALISED),
    "gigpo": ({}, {"dual_clip": 1.2, "normalisation": "token-mean", **CORRECTED}, PENALISED),
    "ipa_token": ({}, {"gamma": 0.7, "mismatch_threshold": 1.1, "normalisation": "token-mean"}, CORRECTED | PENALISED),
    "ipa_trajectory": ({}, {"mismatch_threshold": 1.1, "normalisation": "trajectory-mean"}, CORRECTED | PENALISED),
}
for_every_variant = pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param(name, fields, id=f"{name}-{place}")
        for name in VARIANTS
        for place, fields in enumerate(VARIANTS[name])
    ],
)
ragged = settings(max_examples=20)  # for each variant anew


def algorithm(name, fields):
    (spec,) = importlib.import_module(f"tumbler_algorithms.{name}.plugin").tumbler_algorithms()
    rule = spec.config()(**fields)
    return spec.load()(rule), rule


@dataclass(frozen=True, kw_only=True)
class Item:
    """A trained token, and what is known of it."""

    token: object
    chunk: int
    last: bool
    credit: float
    reward: float
    weight: float = 1.0


def items(trajectory):
    return [
        Item(token=token, chunk=index, last=token is run.tokens[-1], credit=run.credit, reward=trajectory.reward)
        for index, run in enumerate(trajectory.chunks)
        for token in run.tokens
    ]


def mean(values):
    return sum(values) / len(values)


def group_of(item, tokens, level):
    """The tokens that share a ratio or a gap with the item."""
    if level == "token":
        return [item]
    return [each for each in tokens if level == "trajectory" or each.chunk == item.chunk]


def gap(item, tokens, level):
    return math.exp(mean([each.token.old - each.token.behaviour for each in group_of(item, tokens, level)]))


def log_ratio(item, tokens, level):
    return mean([each.token.policy - each.token.old for each in group_of(item, tokens, level)])


def corrected(tokens, rule):
    """The tokens that the train-infer correction leaves, with their weights."""
    if rule.mask != "none":
        high = math.inf if rule.high is None else rule.high
        tokens = [each for each in tokens if rule.low <= gap(each, tokens, rule.mask) <= high]
    if rule.weight != "none":
        tokens = [replace(each, weight=min(gap(each, tokens, rule.weight), rule.cap)) for each in tokens]
    return tokens


def clipped(log, advantage, rule, slopes):
    """Loss and gradient of the clipped surrogate; `slopes` is that of the logarithm of the ratio, by token id."""
    ratio = math.exp(log)
    free, bound = ratio * advantage, min(max(ratio, 1 - rule.clip_low), 1 + rule.clip_high) * advantage
    surrogate, moves = (free, free <= bound) if free <= bound else (bound, False)
    if rule.dual_clip is not None and advantage < 0 and surrogate < rule.dual_clip * advantage:
        surrogate, moves = rule.dual_clip * advantage, False
    return -surrogate, {token: -free * slope if moves else 0.0 for token, slope in slopes.items()}


def likelihood(item, weight):
    return -weight * item.token.policy, {item.token.id: -weight}


def own(item):
    return {item.token.id: 1.0}


def shared(item, tokens, level):
    group = group_of(item, tokens, level)
    return {each.token.id: 1 / len(group) for each in group}


def generalised(tokens, rule):
    """The advantage of each token by id, backwards through the trajectory."""
    advantages, following, expected = {}, 0.0, 0.0
    for item in reversed(tokens):
        surprise = (item.credit if item.last else 0.0) + rule.gamma * expected - item.token.old_value
        following = surprise + rule.gamma * rule.gae_lambda * following
        expected = item.token.old_value
        advantages[item.token.id] = following
    return advantages


def discounted(tokens, rule):
    returns, following = {}, 0.0
    for item in reversed(tokens):
        following = (item.credit if item.last else 0.0) + rule.gamma * following
        returns[item.token.id] = following
    return returns


def value_error(item, advantage, rule):
    """Squared error of the value head and its derivative by the value."""
    token, target = item.token, advantage + item.token.old_value
    error, slope = (token.value - target) ** 2, 2 * (token.value - target)
    if rule.value_clip is not None:
        moved = min(max(token.value - token.old_value, -rule.value_clip), rule.value_clip)
        bounded = (token.old_value + moved - target) ** 2
        if bounded > error:
            error, slope = bounded, 0.0 if abs(token.value - token.old_value) > rule.value_clip else slope
    return rule.value_weight * error, rule.value_weight * slope


def reinforce(item, every, tokens, rule):
    return likelihood(item, item.credit)


def grpo(item, every, tokens, rule):
    log = log_ratio(item, tokens, rule.ratio_level)
    return clipped(log, item.credit, rule, shared(item, tokens, rule.ratio_level))


def gspo(item, every, tokens, rule):
    slopes = own(item) if rule.variant == "token" else shared(item, tokens, "trajectory")
    return clipped(log_ratio(item, tokens, "trajectory"), item.credit, rule, slopes)


def ppo(item, every, tokens, rule):
    advantage = generalised(every, rule)[item.token.id]
    value, slopes = clipped(log_ratio(item, tokens, "token"), advantage, rule, own(item))
    return value + value_error(item, advantage, rule)[0], slopes


def tis(item, every, tokens, rule):
    return likelihood(item, min(math.exp(log_ratio(item, tokens, rule.ratio_level)), rule.cap) * item.credit)


def topr(item, every, tokens, rule):
    log = log_ratio(item, tokens, "trajectory") * (len(tokens) if rule.ratio == "product" else 1)
    return likelihood(item, (min(math.exp(log), 1.0) if item.credit < 0 else 1.0) * item.credit)


def cispo(item, every, tokens, rule):
    low = 0.0 if rule.clip_low is None else 1 - rule.clip_low
    return likelihood(item, min(max(math.exp(log_ratio(item, tokens, "token")), low), 1 + rule.clip_high) * item.credit)


def gigpo(item, every, tokens, rule):
    return clipped(log_ratio(item, tokens, "token"), item.credit, rule, own(item))


def ipa_token(item, every, tokens, rule):
    worth = discounted(every, rule)[item.token.id]
    weight = 1.0 if item.reward > 0 and worth >= 0 else min(math.exp(log_ratio(item, tokens, "token")), 1.0)
    return likelihood(item, weight * worth)


def ipa_trajectory(item, every, tokens, rule):
    good = item.reward > 0 and item.credit >= 0
    weight = 1.0 if good else min(math.exp(log_ratio(item, tokens, "trajectory")), 1.0)
    return likelihood(item, weight * item.credit)


def counted(tokens, name, rule):
    """The tokens that count: the two ablations of IPA mask some more, which still count for a ratio."""
    if not name.startswith("ipa"):
        return tokens
    return [each for each in tokens if gap(each, tokens, "token") <= rule.mismatch_threshold]


def denominator(kept, rule):
    """What the totals of these trajectories' tokens are divided by."""
    return {
        "token-mean": sum(len(tokens) for tokens in kept),
        "chunk-mean": sum(len({each.chunk for each in tokens}) for tokens in kept),
        "trajectory-mean": sum(bool(tokens) for tokens in kept),
    }.get(rule.normalisation, len(kept))


def scale(item, tokens, rule):
    return {
        "chunk-mean": 1 / len(group_of(item, tokens, "chunk")),
        "trajectory-mean": 1 / len(tokens),
        "constant": 1 / (rule.constant_length or 1),
    }.get(rule.normalisation, 1.0)


def penalty(token, rule):
    """The penalty of one token, and its derivatives by log π and by the entropy."""
    x = token.initial - token.policy if rule.kl_reference == "initial" else token.policy - token.old
    sign = -1 if rule.kl_reference == "initial" else 1
    value = rule.kl_weight * (math.exp(x) - 1 - x) - rule.entropy_weight * token.entropy
    return value, rule.kl_weight * sign * (math.exp(x) - 1)


def reference(trajectories, name, rule):
    """Total, denominator, and gradients by token id: of log π and of the values."""
    total, of_policy, of_value, kept = 0.0, {}, {}, []
    for trajectory in trajectories:
        every = items(trajectory)
        tokens = corrected(every, rule.correction)
        kept.append(counted(tokens, name, rule))
        for item in kept[-1]:
            value, slopes = globals()[name](item, every, tokens, rule)
            extra, slope = penalty(item.token, rule)
            factor = scale(item, kept[-1], rule)
            total += factor * (item.weight * value + extra)
            of_policy[item.token.id] = of_policy.get(item.token.id, 0.0) + factor * slope
            for token, each in slopes.items():
                of_policy[token] = of_policy.get(token, 0.0) + factor * item.weight * each
            if name == "ppo":
                error = value_error(item, generalised(every, rule)[item.token.id], rule)
                of_value[item.token.id] = factor * item.weight * error[1]
    return total, denominator(kept, rule), of_policy, of_value


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@for_every_variant
@ragged
@given(data=st.data())
def test_loss_and_gradient_agree_with_the_slow_reference(batches, name, fields, data):
    plain = data.draw(batches.plain_batches(stale=0.3, mismatch=0.4))
    seeds = st.none() | st.integers(0, 99)
    batch = batches.tensors(
        plain, shuffle=data.draw(seeds), noise=data.draw(seeds), padding=data.draw(st.integers(0, 2))
    )
    built, rule = algorithm(name, fields)
    output = built.loss(batch)
    total, divisor, of_policy, of_value = reference(plain, name, rule)
    assert near(output.total.item(), total)
    assert output.denominator == divisor
    found = batches.gradients(batch, output)
    assert near(found, {token: of_policy.get(token, 0.0) for token in found})
    if name == "ppo":
        found = batches.gradients(batch, output, of="values")
        assert near(found, {token: of_value.get(token, 0.0) for token in found})
