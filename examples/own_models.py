"""Models of your own: a base model and LoRA adapters of it, on questions of your own.

    python examples/own_models.py BASE ADAPTER ADAPTER...

BASE is a folder or an id of the Hugging Face hub, an ADAPTER a folder that peft saved.
"""

import sys
from pathlib import Path

from harness import Session
from utilities import Item

QUESTIONS = [
    Item(id=str(k), question=f"Is {k} an even number?", choices={"A": "yes", "B": "no"}, answer="BA"[k % 2 == 0])
    for k in range(16)
]


def main(base, *adapters):
    questions = {"dev": QUESTIONS[:8], "test": QUESTIONS[8:]}
    experts = [Path(folder) for folder in adapters]
    with Session(task=questions, base_model=base, experts=experts, particles=4, iterations=2) as session:
        print("base model:", session.evaluate(session.base, "dev").value)
        for folder in experts:
            print(f"{folder.name}:", session.evaluate(session.expert(folder.name), "dev").value)
        run = session.search(display="none")
    print(run.table())
    run.winner.save("winner")  # an adapter that peft loads


if __name__ == "__main__":
    main(*sys.argv[1:])
