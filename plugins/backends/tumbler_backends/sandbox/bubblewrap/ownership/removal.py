"""Remove folders that untrusted code filled; knows nothing of what they were."""

import contextlib
import shutil
import subprocess
from pathlib import Path

__all__ = ["remove_tree"]


def remove_tree(folder: Path) -> None:
    """Remove a folder that untrusted code filled: unreadable, deep, or with links out of it.

    Links are never followed. Raises `OSError` where something could not be removed.
    """
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if not folder.exists():
        return
    # Folders without permissions stop any walk; coreutils follow no links here and know no depth limit.
    for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
        subprocess.run([*command, str(folder)], check=False, capture_output=True)
    if folder.exists():
        raise OSError(f"the sandbox folder {folder} could not be removed completely")
