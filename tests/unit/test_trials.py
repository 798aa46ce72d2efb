"""What is tried on a commit: patches that still apply, and both sides asked by turns."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import turns

ROOT = Path(__file__).parents[2]
TRIALS = sorted((ROOT / "bench" / "trials").glob("*.patch"))
# A side without the file that the patch adds makes ten a second, the other one twenty.
ASKS = """import pathlib
from bench import report
from bench.question import Sample

results = pathlib.Path("bench/results")
number = len([*results.glob("*.json")])
seconds = 5 if pathlib.Path("faster").exists() else 10
costs = {"postgres_cpu": 1, "client_cpu": 1, "wal_bytes": 1, "load": 0}
sample = Sample(count=100, seconds=seconds, **costs)
report.write(results / f"{number}-full.json", {"drain": [sample]}, machine={"commit": "?"})
"""
FASTER = """
diff --git a/faster b/faster
new file mode 100644
--- /dev/null
+++ b/faster
@@ -0,0 +1 @@
+yes
"""


def git(*arguments: str, index: Path | None = None, stdin: str = "") -> bool:
    environment = os.environ | ({} if index is None else {"GIT_INDEX_FILE": str(index)})
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, env=environment, input=stdin, text=True, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("path", TRIALS, ids=[path.stem for path in TRIALS])
def test_a_trial_applies_to_the_commit_that_it_names(path: Path, tmp_path: Path) -> None:
    trial = turns.read(path)
    if not git("cat-file", "-e", trial.commit):
        pytest.skip("the clone has no history")
    index = tmp_path / "index"
    assert git("read-tree", trial.commit, index=index)
    assert git("apply", "--check", "--cached", "-", index=index, stdin=trial.patch)


@pytest.mark.parametrize("head", ["On: HEAD\n", "On: HEAD\nRun: rm -r x\n", "diff --git a b\n"])
def test_a_patch_that_does_not_say_how_it_is_asked_is_refused(head: str, tmp_path: Path) -> None:
    path = tmp_path / "some.patch"
    path.write_text(head)

    with pytest.raises(ValueError, match=r"some\.patch does not begin with the lines On: COMMIT"):
        turns.read(path)


def test_both_sides_are_asked_by_turns_compared_and_kept_with_what_was_tried_on_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asks, path = tmp_path / "asks.py", tmp_path / "faster.patch"
    asks.write_text(ASKS)
    path.write_text(f"On: HEAD\nRun: python {asks}\n{FASTER}")
    monkeypatch.setattr(sys, "argv", ["turns", str(path), "--rounds", "2"])
    monkeypatch.setattr("bench.turns._KEPT", tmp_path)

    turns.main()

    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    [line] = [each for each in capsys.readouterr().out.splitlines() if "| a second |" in each]
    assert line == "| drain | a second | 10 | 20 | 2.000 | 2.000 | 2.000 | better |"
    for side in ("before", "after"):
        [kept] = tmp_path.glob(f"*-faster-{side}.json")
        assert json.loads(kept.read_text())["machine"] == {
            "commit": head,
            "trial": "faster",
            "trial_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "side": side,
        }
