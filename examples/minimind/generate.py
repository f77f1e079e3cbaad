"""Make the corpus of this example: little stories that obey a grammar and arithmetic, and conversations about them.

    python generate.py OUTPUT_DIRECTORY

Needs nothing but Python, and writes the same files everywhere: OUTPUT_DIRECTORY/stories/stories.jsonl, lines of
{"text": …}, and OUTPUT_DIRECTORY/chats/chats.jsonl, lines of {"conversations": […]}. Takes a second.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

STORIES, CHATS = 12_000, 6_000
SEED = 20

PEOPLE = {"Mia": "she", "Tom": "he", "Lena": "she", "Ben": "he", "Ada": "she", "Max": "he"}
THINGS = ("apples", "shells", "books", "marbles", "stones", "cookies")
ANIMALS = {"cat": "meows", "dog": "barks", "duck": "quacks", "cow": "moos", "owl": "hoots", "frog": "croaks"}
PLACES = ("garden", "forest", "kitchen", "meadow", "market")
COLOURS = ("red", "green", "blue", "yellow")
WHO = "I am a very small model. I know little stories about people, animals and numbers."


def gift(chance: Random) -> tuple[str, str, str]:
    """Return a story in which somebody gets or loses things, a question, and the answer."""
    giver, owner = chance.sample(sorted(PEOPLE), 2)
    thing, had, moved = chance.choice(THINGS), chance.randint(2, 9), chance.randint(1, 5)
    gets = had <= moved or chance.random() < 0.5
    now = had + moved if gets else had - moved
    event = f"{giver} gives {owner} {moved} more." if gets else f"{owner} gives {giver} {moved} of them."
    story = f"{owner} has {had} {thing}. {event}"
    return story, f"How many {thing} does {owner} have?", f"{owner} has {now} {thing}."


def meeting(chance: Random) -> tuple[str, str, str]:
    """Return a story in which somebody meets an animal, a question, and the answer."""
    name, place, colour = chance.choice(sorted(PEOPLE)), chance.choice(PLACES), chance.choice(COLOURS)
    animal = chance.choice(sorted(ANIMALS))
    story = f"{name} walks through the {place} with a {colour} hat. There {PEOPLE[name]} meets a {animal}."
    if chance.random() < 0.5:
        return story, f"What does the {animal} do?", f"The {animal} {ANIMALS[animal]}."
    return story, f"What colour is the hat of {name}?", f"The hat of {name} is {colour}."


KINDS: tuple[Callable[[Random], tuple[str, str, str]], ...] = (gift, meeting)


def stories(chance: Random) -> Iterator[dict[str, object]]:
    """Yield texts of two stories each, with their ends."""
    for _ in range(STORIES):
        parts = []
        for _ in range(2):
            story, _, end = chance.choice(KINDS)(chance)
            parts.append(f"{story} {end}")
        yield {"text": " ".join(parts)}


def chats(chance: Random) -> Iterator[dict[str, object]]:
    """Yield conversations: a story with a question, and its answer; now and then who is asked."""
    for _ in range(CHATS):
        if chance.random() < 0.05:
            yield {"conversations": _messages("Who are you?", WHO)}
            continue
        story, question, answer = chance.choice(KINDS)(chance)
        yield {"conversations": _messages(f"{story} {question}", answer)}


def _messages(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write(path: Path, lines: Iterator[dict[str, object]]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(path)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    write(directory / "stories" / "stories.jsonl", stories(Random(SEED)))
    write(directory / "chats" / "chats.jsonl", chats(Random(SEED + 1)))


if __name__ == "__main__":
    main()
