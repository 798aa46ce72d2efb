"""For the tests of applications: one step alone, a whole life on a virtual clock, a real server.

`run_step` calls one handler and returns its intent.  `run` is an engine in memory whose clock the
test moves: `pgprog.testing.twin` is what the SQL functions mean, held against them by the tests of
pgprog.  Neither needs a database.  For tests with one there are fixtures of pytest in
`pgprog.testing.fixtures`.
"""

from pgprog.testing.running import Run, RunTask, run
from pgprog.testing.steps import run_step

__all__ = ["Run", "RunTask", "run", "run_step"]
