"""The process of a job of the queue: runs its command as the command line does, and writes down how it ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from muybridge.files import write_json
from muybridge.jobs.queue import END, PROCESS, Queue


def work(folder: Path) -> int:
    """Run the job of a folder; returns its exit code."""
    job, code = Queue(folder.parent).job(folder.name), 1
    # one that a shell started in the background ignores it, and what it starts does too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    write_json(folder / PROCESS, {"process": os.getpid()})
    sys.argv = ["muybridge", *job.arguments]
    print(f"$ {' '.join(sys.argv)}", flush=True)
    try:
        from muybridge.cli.main import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        write_json(folder / END, {"code": code, "at": time.time()})
    return code


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
