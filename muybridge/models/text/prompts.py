"""What a prompt must be to be read at all; light, so that it is refused before anything is loaded."""

from __future__ import annotations

from muybridge.errors import UserError

MAX_PROMPT_WORDS = 2000


def check_prompt(prompt: str, where: str = "the prompt") -> str:
    """Refuse prompts that no encoder here can read.

    Args:
        where: what it is, for the message.

    Raises:
        UserError: it is empty, no text, or of more than MAX_PROMPT_WORDS words.
    """
    words = prompt.split()
    if not words:
        raise UserError(f"{where} is empty: say what the video shows, for example 'a red circle moving left'")
    if len(words) > MAX_PROMPT_WORDS:
        raise UserError(
            f"{where} has {len(words)} words; at most {MAX_PROMPT_WORDS} are taken, of which the model reads only "
            f"the first few"
        )
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{where} holds bytes that are no UTF-8 (at character {error.start}): type it anew") from error
    return prompt
