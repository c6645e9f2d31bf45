#!/usr/bin/env python3
"""--payload auto with measured figures: over a slow link it sends the input, over a fast one to a slow
server the activation. Arguments: SCRIPT BUILD MODEL."""

import json
import pathlib
import subprocess
import sys
import tempfile

SCRIPT, BUILD, MODEL = sys.argv[1:4]


def main():
    with tempfile.TemporaryDirectory(prefix="splitee-payload-test-") as folder:
        out = pathlib.Path(folder) / "out.json"
        done = subprocess.run(
            [SCRIPT, "--build", BUILD, "--model", MODEL, "--samples", "60", "--skip", "30", "--payloads", "auto",
             "--json", out], capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        slow_link, slow_server = (runs["auto"] for runs in json.loads(out.read_text()).values())
    # The better choice is several times faster in both cases. A few samples may be sent the other
    # way while the estimates settle.
    assert slow_link["input_share"] > 0.7, slow_link
    assert slow_server["input_share"] < 0.3, slow_server
    assert slow_link["bytes"] < slow_server["bytes"], (slow_link, slow_server)


if __name__ == "__main__":
    main()
