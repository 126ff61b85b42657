"""A character model: learns the manual of Python itself, byte by byte, and writes a few lines of it.

Run it: python examples/character_model.py
"""

import pydoc_data.topics

from stream_rnn import TextModel

topics = pydoc_data.topics.topics
text = "\n".join(topics[key] for key in sorted(topics)).encode()[:100_000]

model = TextModel()
bits = []
for start in range(0, len(text), 20_000):
    costs = model.learn(text[start : start + 20_000])  # each byte is guessed before it is learnt
    bits.append(costs.mean())
    print(f"{start + len(costs):7,} bytes: {bits[-1]:.2f} bits a byte")

print("\nit goes on:", model.sample(200, start="The ", temperature=0.7).decode(errors="replace"))
assert bits[-1] < 2.0 < bits[0]  # knowing nothing would cost 8
