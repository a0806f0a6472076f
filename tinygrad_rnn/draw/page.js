// What the interactive page and the film share: the data, and the tooltip. One of their scripts follows.
// Names come from users: they are only ever set as text, or were escaped when a picture was written.
const $ = (id) => document.getElementById(id);
const packed = new Blob([Uint8Array.from(atob($("data").textContent), (c) => c.charCodeAt(0))]).stream();
const data = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).json();

// A thin line, or the gap of a dashed one, is caught a few pixels beside it, too.
function near(x, y, find) {
  for (let r = 0; r < 8; r += 1.25)
    for (let a = 0; a < (r ? 8 : 1); a++) {
      const hit = document.elementFromPoint(x + r * Math.cos(a * Math.PI / 4), y + r * Math.sin(a * Math.PI / 4));
      const found = hit && find(hit);
      if (found) return found;
    }
  return null;
}
function hint(text, x, y) {
  const tip = $("tip");
  tip.hidden = !text;
  tip.textContent = text;
  const r = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - r.width - 4))}px`;
  tip.style.top = `${y + 18 + r.height < innerHeight ? y + 18 : Math.max(4, y - r.height - 12)}px`;
}

