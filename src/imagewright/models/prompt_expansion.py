"""Expands prompts and checks what comes back; used by the server, by evaluations and by what measures an enhancer.

A first answer that loses something of the prompt gets one second attempt, whose text begins with the prompt's own words, so that the model
can only add. What fails twice falls back to the prompt.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagewright.curation.prompt_constraints import broken_constraints
from imagewright.models.language_model import user_message, without_markers
from imagewright.models.text_generation import TextCompleter, TextGenerator

REQUEST = re.compile(
    r"^(?:please |can you |could you |could i get |can i get |i want |i need |i would like |gimme |just )*"
    r"(?:draw |make |create |generate )?(?:me )?(?:(?:a picture|an image|a photo) of )?",
    re.IGNORECASE,
)
COURTESY = re.compile(r"(?:,? (?:please|pls))+$", re.IGNORECASE)
UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp", "Zs"})
TOO_LONG = "too_long"
UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Expansion:
    """What the model made of one prompt."""

    first: str
    """The first answer."""
    first_broken: tuple[str, ...]
    """Constraints it breaks."""
    second: str = ""
    """The second answer; empty where there was no second attempt."""
    second_broken: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer that may replace the prompt; empty where there is none."""
        if not self.first_broken:
            return self.first
        return self.second if self.second and not self.second_broken else ""

    @property
    def reason(self) -> str:
        """Why the prompt must stand: what the first answer broke; empty where it need not."""
        return "" if self.text else self.first_broken[0]


def expand_prompts(
    generator: TextGenerator,
    prompts: Sequence[str],
    size_px: tuple[int, int],
    max_new_tokens: int,
    seconds: float,
    fits: Callable[[str], bool] = lambda _: True,
) -> list[Expansion]:
    """One expansion per prompt for images of (width, height) pixels; both attempts together stay within the seconds.

    fits: whether a text is within the prompt length the image model was trained on. Raises what `TextGenerator.generate` raises.
    """
    deadline = time.monotonic() + seconds
    contents = [user_message(prompt, *size_px) for prompt in prompts]
    firsts = generator.generate(contents, max_new_tokens, seconds)
    found = [Expansion(text, broken_by(prompt, text, fits)) for prompt, text in zip(prompts, firsts, strict=True)]
    left = deadline - time.monotonic()
    openings = [opening_of(prompt) for prompt in prompts]
    again = [at for at, expansion in enumerate(found) if expansion.first_broken and openings[at] and fits(openings[at])]
    if not again or left <= 0 or not isinstance(generator, TextCompleter):
        return found
    seconds_answers = generator.complete([contents[at] for at in again], [openings[at] for at in again], max_new_tokens, left)
    for at, text in zip(again, seconds_answers, strict=True):
        broken = broken_by(prompts[at], text, fits)
        unchanged = len(text.split()) <= len(openings[at].split())
        found[at] = Expansion(found[at].first, found[at].first_broken, text, broken or ((UNCHANGED,) if unchanged else ()))
    return found


def broken_by(prompt: str, text: str, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Constraints of the prompt that a text breaks, its length among them."""
    broken = broken_constraints(prompt, text)
    return broken if broken or fits(text) else (TOO_LONG,)


def opening_of(prompt: str) -> str:
    """The prompt's words as the beginning of a caption: in one line, without words of request and closing punctuation, then a comma.

    Empty for a prompt without a letter or digit.
    """
    visible = "".join(" " if unicodedata.category(character) in UNSEEN else character for character in prompt)
    plain = COURTESY.sub("", " ".join(visible.split()).rstrip(" .。!！?？,;"))
    bare = without_markers(REQUEST.sub("", plain, count=1) or plain)
    return f"{bare}," if any(character.isalnum() for character in bare) else ""
