"""How secrets are kept out of files and of messages."""

import pytest

from tumbler.errors import RegistryError
from tumbler.registry import reveal
from tumbler.registry.secret_references import STAND_IN, replace_references

SECRET = "hunter2"


@pytest.fixture
def cloud(resolve):
    return resolve("smoke").backends["sandbox"]


def test_a_reference_stays_a_reference_in_the_resolved_run(cloud, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", SECRET)
    assert cloud.settings["api_key"] == {"env": "SHOP_KEY"}
    assert SECRET not in str(cloud)


def test_a_variable_is_read_when_the_component_is_built(cloud, host, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", SECRET)
    built = cloud.build(host)
    assert built.settings.api_key.get_secret_value() == SECRET


def test_a_variable_that_is_not_set_is_named_when_the_component_is_built(cloud, host, monkeypatch):
    monkeypatch.delenv("SHOP_KEY", raising=False)
    with pytest.raises(RegistryError, match="api_key refers to the environment variable SHOP_KEY, which is not set"):
        cloud.build(host)


def test_a_secret_default_is_not_written_down_as_its_mask(cloud, host, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", SECRET)
    assert "spare_key" not in cloud.settings
    assert "*" not in str(cloud.settings)
    assert cloud.build(host).settings.spare_key.get_secret_value() == "built-in"


def test_references_work_for_plain_text_and_inside_tables(resolve, host, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", SECRET)
    monkeypatch.setenv("SHOP_REGION", "us")
    cloud = resolve(
        "smoke",
        "backends.cloud.region={ env = 'SHOP_REGION' }",
        "backends.cloud.retry={ token = { env = 'SHOP_KEY' } }",
        "backends.cloud.headers={ auth = { env = 'SHOP_KEY' } }",
    ).backends["sandbox"]
    assert cloud.settings["retry"] == {"attempts": 3, "token": {"env": "SHOP_KEY"}}
    settings = cloud.build(host).settings
    assert (settings.region, settings.retry.token.get_secret_value()) == ("us", SECRET)
    assert settings.headers["auth"].get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("override", "path"),
    [
        (f"backends.cloud.api_key={SECRET}", "backends.cloud.api_key"),
        (f"backends.cloud.retry={{ token = '{SECRET}' }}", "backends.cloud.retry.token"),
        (f"backends.cloud.headers={{ auth = '{SECRET}' }}", "backends.cloud.headers.auth"),
        ("backends.cloud.api_key=2026", "backends.cloud.api_key"),
    ],
)
def test_a_literal_secret_is_refused_without_repeating_it(resolve, override, path):
    with pytest.raises(RegistryError) as caught:
        resolve("smoke", override, "backends.cloud.region=3")
    assert path in {problem.path for problem in caught.value.problems}
    assert "a secret must not be written into the file" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "2026" not in str(caught.value)


def test_a_reference_in_place_of_a_number_is_refused(resolve):
    with pytest.raises(RegistryError, match=r"envs\.path\.size: .*only text can be a reference"):
        resolve("smoke", "envs.path.size={ env = 'SIZE' }")


def test_reveal_leaves_what_is_no_reference(monkeypatch):
    monkeypatch.setenv("NAME", "value")
    settings = {"a": {"env": "NAME"}, "b": {"env": "not a name"}, "c": [{"env": "NAME", "x": 1}, {"env": "NAME"}]}
    assert reveal(settings) == {"a": "value", "b": {"env": "not a name"}, "c": [{"env": "NAME", "x": 1}, "value"]}


def test_settings_that_no_longer_fit_are_refused_when_built(resolve, host):
    from dataclasses import replace

    model = replace(resolve("smoke").model, settings={"batch": "x", "speed": 1})
    with pytest.raises(RegistryError) as caught:
        model.build(host)
    assert {problem.path for problem in caught.value.problems} == {"batch", "speed"}


def test_two_variables_are_two_values_while_a_file_is_checked():
    settings = {"tenants": [{"token": {"env": "ONE"}}, {"token": {"env": "TWO"}}, {"token": {"env": "ONE"}}]}
    first, second, third = (each["token"] for each in replace_references(settings, STAND_IN)["tenants"])
    assert first == third != second
    assert len(first) >= 16
