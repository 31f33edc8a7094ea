"""One pass of a picture network with a plug-in: what its hooks read, set for the pass and for what is computed of it
again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.checkpoint import checkpoint

from muybridge.nn.temporal import Call, TemporalPlugin

#: Hooks find the pass on the network: one at a time, whichever thread comes first. Not on the network itself, which is
#: copied.
_ONE_AT_A_TIME = threading.RLock()


class PassesCalls:
    """A network whose layers' hooks read `call`: a picture network with a temporal plug-in.

    Outside a pass there is no call, and the picture network is an ordinary one.
    """

    temporal: TemporalPlugin
    call: Call | None = None

    @contextmanager
    def passing(self, call: Call) -> Iterator[None]:
        """Let hooks see a call within a block of code; afterwards they see what they saw before it, also after an
        error."""
        with _ONE_AT_A_TIME:
            former, self.call = self.call, call
            self._enter(call)
            try:
                yield
            finally:
                self.call = former
                self._enter(former)

    def _enter(self, call: Call | None) -> None:
        """Set what lies on layers rather than in the call; None sets it back."""
        self.temporal.enter(call)

    def checkpointed(self, function: Any, *args: Any) -> Any:
        """Gradient checkpointing: what is computed again during a backward pass sees the call of its own forward pass.

        Two passes may precede one backward pass (guidance under reconstruction guidance), with different conditions.
        """
        call = self.call

        def again(*inputs: Any) -> Any:
            if call is None or call is self.call:
                return function(*inputs)
            with self.passing(call):
                return function(*inputs)

        return checkpoint(again, *args, use_reentrant=False)
