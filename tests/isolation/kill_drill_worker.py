"""What the kill drill kills: a slot that executes one run after the other; ``… FOLDER MARK SEED``."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import trio

from isolation.lives import lives
from isolation.ways import WAYS
from pyoco_server.worker.runner.kin import marks_of


async def main(folder: Path, mark: str, seed: int) -> None:
    order = random.Random(seed)
    async with lives(folder, marks=marks_of(mark)) as slot:
        print("ready", flush=True)
        while True:
            stay = order.random() < 0.5
            way = order.choice([way for way in WAYS if stay or way != "run"])
            await slot.run(
                {"callable": f"spawns:{way}", "inputs": {"mark": mark, "stay": stay}},
                order.choice("ab"),
            )


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
