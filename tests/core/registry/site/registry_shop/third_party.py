"""Stands in for a third party's plugin."""

from tumbler import hookimpl
from tumbler.specs import BackendSpec, EnvironmentSpec


def _cloud():
    from registry_shop.components import Cloud

    return Cloud


def _cloud_settings():
    from registry_shop.settings import CloudSettings

    return CloudSettings


def _maze_settings():
    from registry_shop.settings import MazeSettings

    return MazeSettings


@hookimpl
def tumbler_environments():
    return [
        EnvironmentSpec(name="maze", summary="Get out.", load=_cloud, config=_maze_settings, needs=("sandbox",)),
    ]


@hookimpl
def tumbler_backends():
    return [BackendSpec(name="cloud", summary="Far away.", load=_cloud, config=_cloud_settings, roles=("sandbox",))]
