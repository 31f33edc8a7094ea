"""What is said of a user's file or folder."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Identity:
    """What was found.

    Attributes:
        kind: in words.
        used_by: where muybridge takes it.
        parameters, file_bytes: of all weights.
        memory_bytes: weights in float32, as they are opened for sampling here.
        needs: what else it takes to use it.
        notes: what one should know.
    """

    kind: str
    used_by: str
    parameters: int = 0
    file_bytes: int = 0
    needs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def memory_bytes(self) -> int:
        return 4 * self.parameters
