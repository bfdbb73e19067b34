"""Write the reference pages: python docs/generate.py (with Tumbler's own plugins installed)."""

import sys
from pathlib import Path

from tumbler.plugins import PluginHost
from tumbler.registry.reference import registry_page, settings_page

REFERENCE = Path(__file__).parent / "reference"


def pages() -> dict[Path, str]:
    """Return each page's path and its text, made from what is installed."""
    return {
        REFERENCE / "registry.md": registry_page(),
        REFERENCE / "settings.md": settings_page(PluginHost.load(allow=["tumbler"])),
    }


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")
