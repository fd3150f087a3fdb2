"""TensorFlow and absl write to stderr at every start and every `.h5` file; a tool that is silent when all is well keeps that back."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_start() -> Iterator[None]:
    """Import TensorFlow inside: what its C++ runtime writes to file descriptor 2 is dropped, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as swallowed:
        os.dup2(swallowed.fileno(), 2)
        try:
            yield
        except BaseException:
            swallowed.seek(0)
            os.write(kept, swallowed.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def without_absl_warnings() -> Iterator[None]:
    """Keras advises against `.h5` through absl each time one is written: the user asked for it."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
