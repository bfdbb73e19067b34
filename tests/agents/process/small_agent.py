"""A small agent, as somebody else would write it: the standard library, a chat API, and one tool, a shell."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

URL = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
TOOL = {"type": "function", "function": {"name": "sh", "description": "Runs a command.", "parameters": {}}}


def ask(messages):
    body = {"model": os.environ["OPENAI_MODEL"], "messages": messages, "tools": [TOOL]}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    request = urllib.request.Request(URL, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]


def main():
    prompt = Path(sys.argv[1]).read_text()
    messages = [{"role": "user", "content": prompt}]
    while True:
        try:
            message = ask(messages)
        except urllib.error.HTTPError as error:
            sys.exit(error.read().decode())
        messages.append(message)
        if not message.get("tool_calls"):
            sys.stdout.write(message["content"] + "\n")
            break
        for each in message["tool_calls"]:
            command = json.loads(each["function"]["arguments"])["command"]
            done = subprocess.run(command, shell=True, capture_output=True, text=True)
            messages.append({"role": "tool", "tool_call_id": each["id"], "content": done.stdout + done.stderr})
    Path("/tmp/agent.log").write_text(f"{len(messages)} messages")


main()
