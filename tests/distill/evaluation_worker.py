"""One rank of a run whose process group has a time-out shorter than its evaluation, and than its aligners' training.

torch.distributed.run starts it with a folder that has `student`, `data` and `cache`. Rank 0 is the slow one.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from distill.objective import crossfit_store
from distill.students import task_model
from pipelines.run.request import make_request
from pipelines.run.training import run_training

TIMEOUT_S, SLOW_S = 4, 9

if __name__ == "__main__":
    home = Path(sys.argv[1])
    state = PartialState(cpu=True, timeout=timedelta(seconds=TIMEOUT_S))
    seen: list[int] = []
    predict, train_aligners = task_model.predict, crossfit_store.out_of_fold_logits

    def slow_predict(model, tokens, device, **options):
        shared = options["shared"]
        seen.append(sum(map(len, shared.batches(tokens.lengths, 64))))
        if state.is_main_process:
            time.sleep(SLOW_S)
        return predict(model, tokens, device, **options)

    def slow_aligners(*given, **named):
        time.sleep(SLOW_S)
        return train_aligners(*given, **named)

    task_model.predict, crossfit_store.out_of_fold_logits = slow_predict, slow_aligners
    options = json.loads(sys.argv[2])
    result = run_training(make_request({**options, "student": str(home / "student"), "out": str(home / "out")}))
    facts = {"ranks": state.num_processes, "rows": seen, "metrics": result.metrics}
    (home / f"rank{state.process_index}.json").write_text(json.dumps(facts))
