"""Labels that come later: each parcel is weighed in minutes after it was measured, by a record with its id.

Run it: python examples/delayed_labels.py
"""

import random

from stream_rnn import Regressor

rng = random.Random(1)
model = Regressor("grams", id="parcel", key="belt", max_delay=40, hidden=16)
waiting: list[tuple[int, str, int, float]] = []  # when its label comes, belt, id, label
errors, naive, late = [], [], 0
for i in range(3000):
    belt, length, width = rng.choice("AB"), rng.uniform(10, 60), rng.uniform(10, 40)
    grams = (2.0 if belt == "A" else 3.0) * length * width + rng.gauss(0, 20)
    p = model.step({"belt": belt, "parcel": i, "length": length, "width": width})  # no label yet
    waiting.append((i + rng.randrange(1, 40), belt, i, grams))
    for due in [w for w in waiting if w[0] <= i]:
        waiting.remove(due)
        _, belt, parcel, label = due
        told = model.learn(belt, parcel, label)  # what had been predicted of that parcel, and now its error
        late += 1
        if parcel > 2000:
            errors.append(abs(told.error))
            naive.append(abs(label - 2190))

mean, guess = sum(errors) / len(errors), sum(naive) / len(naive)
print(f"{late:,} labels came later; mean error {mean:.0f} g; of 'as heavy as usual' {guess:.0f} g")
assert mean < 0.4 * guess
