"""What `--set` does."""

import pytest

from tumbler.errors import RegistryError


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("envs.path.size=9", 9),
        ("envs.path.size = 9 ", 9),
        ("'envs'.\"path\".size=9", 9),
    ],
)
def test_a_key_is_set_however_it_is_written(resolve, override, value):
    assert resolve("smoke", override).env.settings["size"] == value


def test_values_are_toml_literals_and_anything_else_is_text(resolve):
    run = resolve(
        "smoke",
        "runs.smoke.stages=['eval']",
        "runs.smoke.sampling.temperature=0.5",
        "runs.smoke.description=two words = text",
        "runs.smoke.env={ use = 'trail', size = 3 }",
        "runs.smoke.seed=1_000",
    )
    assert (run.stages, run.sampling.temperature, run.seed) == (("eval",), 0.5, 1000)
    assert run.description == "two words = text"
    assert run.env.settings["size"] == 3


def test_text_that_brings_further_keys_along_stays_text(resolve):
    run = resolve("smoke", "runs.smoke.description=1\nseed = 5")
    assert (run.description, run.seed) == ("1\nseed = 5", 3)


def test_later_overrides_win(resolve):
    assert resolve("smoke", "runs.smoke.seed=1", "runs.smoke.seed=2").seed == 2


def test_an_override_adds_a_table(resolve):
    assert resolve("smoke", "envs.big={ use = 'trail', size = 99 }", "runs.smoke.env=big").env.settings["size"] == 99


def test_an_override_has_the_same_checks_and_is_named_as_the_origin(resolve):
    with pytest.raises(RegistryError, match=r"^--set: algorithms\.mine\.gamma: 2 is refused; "):
        resolve("smoke", "algorithms.mine.gamma=2")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("runs.smoke", "'runs.smoke' is no override; write it like runs.smoke.seed=1"),
        ("=3", "'=3' is no override"),
        ("a b=3", "'a b=3' is no override"),
        ("runs.smok.seed=1", "runs.smok.seed: there is no table runs.smok; did you mean 'smoke'?"),
        ("envs.pth.size=1", "there is no table envs.pth; did you mean 'path'?"),
        ("runs.smoke.algorithm.gamma=1", 'runs.smoke.algorithm is "mine", not a table; set runs.smoke.algorithm'),
        ("plugins.alow=[]", "plugins.alow: unknown key; did you mean 'allow'?"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(resolve, override, message):
    with pytest.raises(RegistryError) as caught:
        resolve("smoke", override)
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set: ")


def test_all_bad_overrides_are_told_at_once(resolve):
    with pytest.raises(RegistryError) as caught:
        resolve("smoke", "nonsense", "runs.smok.seed=1")
    assert len(caught.value.problems) == 2
