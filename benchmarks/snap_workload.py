"""Program that builds objects, then prints its position every few milliseconds."""

import json
from typing import Any

records: list[dict[str, Any]] = [
    {"id": i, "name": f"record {i}", "tags": [i % 7, i % 11]} for i in range(50_000)
]
texts = {record["name"]: json.dumps(record) for record in records}
total, step = 0, 0
while True:
    for i in range(2000):
        total = (total * 31 + records[(step * 2000 + i) % 50_000]["id"]) % 65521
    print(step, total, flush=True)
    step += 1
