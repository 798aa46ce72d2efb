"""For the tests of applications: one step alone, a whole life on a virtual clock, a real server.

`run_step` calls one handler and returns its intent.  Neither needs a database.  For tests with
one, `pgprog.testing.fixtures` has fixtures of pytest.
"""

from pgprog.testing.steps import run_step

__all__ = ["run_step"]
