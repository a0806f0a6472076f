"""What touches in a picture: importable by every test that draws."""

import itertools

import numpy as np

from tinygrad_rnn.draw.geometry import samples
from tinygrad_rnn.draw.marks import Box, Group, Text, Way, marks_of


def faults(drawing):
    """Texts that touch, that a line runs through, that lie half on a box, that are under 14 px or off the page."""
    marks = list(marks_of(drawing.items))
    texts = [(m.text, m.rect) for m in marks if isinstance(m, Text)]
    boxes = [m.rect for m in marks if isinstance(m, Box) and m.radius and m.fill != "panel"]
    rows = sorted(texts, key=lambda item: item[1].bottom)
    found = []
    for k, (one, a) in enumerate(rows):
        for other, b in rows[k + 1 :]:
            if b.bottom + 1.0 >= a.top:
                break
            if a.left < b.right + 1.0 and b.left < a.right + 1.0 and a.bottom + 1.0 < b.top:
                found.append((one, other))
    numbers = [
        (m.text, m.rect)
        for g in drawing.items
        if isinstance(g, Group) and g.edge
        for m in g.marks
        if isinstance(m, Text)
    ]
    if numbers:
        left, bottom, right, top = np.array([(r.left, r.bottom, r.right, r.top) for _, r in numbers]).T
        ways = np.array([point for m in marks if isinstance(m, Way) for point in samples(m.curve, 2.0)])
        x, y = ways[np.argsort(ways[:, 1])].T
        for k, (text, _) in enumerate(numbers):
            a, b = np.searchsorted(y, (bottom[k] + 1, top[k] - 1))
            if ((left[k] + 1 < x[a:b]) & (x[a:b] < right[k] - 1)).any():
                found.append((text, "a line"))
    for (text, rect), box in itertools.product(texts, boxes):
        if 2.0 < rect.overlap(box) < 0.97 * (rect.right - rect.left) * (rect.top - rect.bottom):
            found.append((text, f"half on a box {box} {rect}"))
    page = drawing.page
    found += [(text, "off the page") for text, rect in texts if rect.left < page.left or rect.right > page.right]
    return found
