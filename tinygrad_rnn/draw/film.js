// The film's behaviour: a slider, keys and a clock choose a frame; of it only what differs is set.
const all = (what) => [...$("film").querySelectorAll(what)];
const things = all(".m").map((g, i) => ({ g, text: g.querySelector("text"), about: data.things[i] }));
const edges = things.filter((e) => e.about[1]), marks = all(".v"), slider = $("frame");
const last = data.labels.length - 1;
let now = -1, timer = 0;

function show(f) {
  if (f === now) return;
  for (const { g, text, about: [words, looks] } of things) {
    if (looks && looks[f] !== looks[now]) g.setAttribute("class", `m k${looks[f]}`);
    if (text && words[f] !== words[now]) text.textContent = words[f];
  }
  data.marks.forEach((each, i) => { if (each[f] !== each[now]) marks[i].innerHTML = each[f]; });
  now = f;
  slider.value = f;
  slider.setAttribute("aria-valuetext", data.labels[f]);
  $("caption").textContent = data.labels[f];
}
function play() {
  clearInterval(timer);
  timer = timer ? 0 : setInterval(() => show((now + 1) % (last + 1)), 150);
  $("play").textContent = timer ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", timer ? "Pause" : "Play");
}

$("stage").addEventListener("pointermove", ({ clientX: x, clientY: y }) => {
  const e = near(x, y, (hit) => edges.find((other) => other.g === hit.parentNode));
  hint(e ? e.about[3].replace("◌", e.about[2][now]) : "", x, y);
});
$("stage").addEventListener("pointerleave", () => hint(""));
addEventListener("keydown", (event) => {
  const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target !== $("play")) play();
  else if (to !== undefined && event.target !== slider) show(Math.max(0, Math.min(last, to)));
  else return;
  event.preventDefault();
});
slider.addEventListener("input", () => show(+slider.value));
$("play").addEventListener("click", play);
// A frame can be linked to: film.html#12 is the twelfth.
const visit = () => show(Math.max(0, Math.min(last, (+location.hash.slice(1) || 1) - 1)));
addEventListener("hashchange", visit);
visit();
$("stage").scrollLeft = 1e6; // on a phone: the end, where the loss is
