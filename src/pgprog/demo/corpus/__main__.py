"""`python -m pgprog.demo.corpus HOME`: write the corpus in a program of its own."""

import signal
import sys
from pathlib import Path

from pgprog.demo.corpus import write_corpus

if __name__ == "__main__":
    # Who started it is interrupted too, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_corpus(Path(sys.argv[1]))
