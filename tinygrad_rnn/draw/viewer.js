// The page's behaviour: levels, pan and zoom, tooltips, the way back from the loss, replay through time.
// Names come from users: they are only ever set as text, never parsed as markup.
const root = document.documentElement, stage = $("stage"), time = $("time");
const views = {}, pointers = new Map();
let v = null, pinned = -1, moved = 0, timer = 0;

// --- one level: its picture is unpacked when it is first looked at
function level(name) {
  if (!data.levels[name] || (v && v.name === name)) return;
  if (v) unlight();
  const old = v && v.times[+time.value];
  if (!(v = views[name])) {
    stage.insertAdjacentHTML("beforeend", data.levels[name].picture);
    const svg = stage.querySelector(`svg[data-level="${name}"]`), b = svg.viewBox.baseVal;
    v = views[name] = { name, svg, box: [b.x, b.y, b.width, b.height], ...data.levels[name] };
    v.n = [...svg.querySelectorAll(".n,.d")];
    v.e = [...svg.querySelectorAll(".e")];
    v.index = new Map([...v.n, ...v.e].map((g, i) => [g, i < v.n.length ? i : i - v.n.length]));
    v.out = v.n.map(() => []);
    v.into = v.n.map(() => []);
    v.edges.forEach(([tail, head], i) => { v.out[tail].push(i); v.into[head].push(i); });
    v.n.forEach((g, i) => {
      g.setAttribute("role", g.matches(".n") ? "button" : "img");
      g.setAttribute("tabindex", i === v.loss ? 0 : -1);
      g.setAttribute("aria-label", v.nodes[i][0].replaceAll("\n", ", "));
    });
  }
  for (const svg of stage.querySelectorAll("svg")) svg.toggleAttribute("hidden", svg !== v.svg);
  for (const b of document.querySelectorAll("button[data-level]")) b.setAttribute("aria-pressed", b.dataset.level === name);
  if (!v.at) fit(); else look();
  time.max = v.times.length - 1;
  $("clock").hidden = v.times.length < 2;
  reach(old ? Math.max(0, v.times.findIndex((t) => t[0] >= old[0])) : 0, false);
}

// --- pan and zoom: `at` is the corner of the window, `s` pixels per point
function look() {
  const [w, h] = [stage.clientWidth || 1, stage.clientHeight || 1];
  v.svg.setAttribute("viewBox", `${v.at[0]} ${v.at[1]} ${w / v.s} ${h / v.s}`);
}
function fit() {
  const [x, y, w, h] = v.box, W = stage.clientWidth || 1, H = stage.clientHeight || 1;
  v.s = Math.min(W / w, H / h, 2);
  v.at = [x + w / 2 - W / v.s / 2, y + h / 2 - H / v.s / 2];
  look();
}
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const s = Math.min(12, Math.max(0.002, v.s * factor));
  v.at = [v.at[0] + x / v.s - x / s, v.at[1] + y / v.s - y / s];
  v.s = s;
  look();
}
function pan(dx, dy) { v.at = [v.at[0] - dx / v.s, v.at[1] - dy / v.s]; look(); }
const local = (e) => { const r = stage.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };

// --- the way back: all edges between a node and the loss
function unlight() {
  for (const g of v.svg.querySelectorAll(".on,.pin")) g.classList.remove("on", "pin");
  v.svg.classList.remove("lit");
  pinned = -1;
  $("status").textContent = "";
}
function light(i) {
  unlight();
  const queue = [i], seen = new Set(queue), norms = [];
  let count = 0;
  for (const n of queue) {
    v.n[n].classList.add("on");
    for (const k of v.out[n]) {
      const [, head, norm, state] = v.edges[k];
      if (state === "none") continue;
      v.e[k].classList.add("on");
      count++;
      if (typeof norm === "number") norms.push(norm);
      if (!seen.has(head)) { seen.add(head); queue.push(head); }
    }
  }
  v.n[i].classList.add("pin");
  v.svg.classList.add("lit");
  pinned = i;
  const f = (x) => String(+x.toPrecision(2)), text = v.nodes[i][0].split("\n");
  const range = norms.length ? `; contributions from ${f(Math.min(...norms))} to ${f(Math.max(...norms))}` : "";
  $("status").textContent = `${text[0]}: ${count ? `${count} edge${count === 1 ? "" : "s"} between it and the loss${range}` : i === v.loss ? "here backward begins" : "no gradient comes back to it"}`;
}
function focus(i) {
  v.n.forEach((g, k) => g.setAttribute("tabindex", k === i ? 0 : -1));
  const r = v.n[i].getBoundingClientRect(), s = stage.getBoundingClientRect();
  const [x, y] = [r.left + r.width / 2 - s.left, r.top + r.height / 2 - s.top];
  if (x < 0 || y < 0 || x > s.width || y > s.height) pan(s.width / 2 - x, s.height / 2 - y);
  v.n[i].focus({ preventScroll: true });
}

// --- replay: edges whose consumer is earlier than `time` have not been reached yet
function reach(k, follow = true) {
  time.value = k;
  const [limit, name] = v.times[k];
  const show = (row, element, place) => { if (row[place] < limit !== !!row.off) element.classList.toggle("off", row.off = row[place] < limit); };
  v.edges.forEach((e, i) => show(e, v.e[i], 4)); // only what changes is touched
  v.nodes.forEach((n, i) => show(n, v.n[i], 1));
  if (v.chart) $("status").textContent = told(Math.max(0, v.chart.steps.findIndex((t) => t >= limit)));
  $("reached").textContent = name;
  time.setAttribute("aria-valuetext", `backward has reached ${name}`);
  if (!follow) return;
  const front = v.nodes.findIndex((n) => n[2] === limit);
  if (front < 0) return;
  const r = v.n[front].getBoundingClientRect(), s = stage.getBoundingClientRect();
  if (r.left < s.left || r.right > s.right) pan(s.left + s.width / 2 - r.left, 0);
}
function play() {
  clearInterval(timer);
  const stop = () => { clearInterval(timer); timer = 0; $("play").textContent = "▶"; };
  if (timer) return stop();
  if (+time.value === 0) reach(+time.max);
  $("play").textContent = "❚❚";
  timer = setInterval(() => { reach(time.value - 1); if (+time.value <= 0) stop(); }, Math.max(60, Math.min(700, 8000 / time.max)));
}

// --- tooltips
function under(x, y) {
  return near(x, y, (hit) => { const g = hit.closest(".n,.d,.e"); return v.index.has(g) && g; });
}
function explain(g, x, y) {
  if (!g) return hint("");
  const i = v.index.get(g), text = g.matches(".e") ? v.edges[i][5] : v.nodes[i][0];
  hint(v.chart && /^(row|line)/.test(g.id.split("-")[1]) ? told(nearest(x)) : text, x, y);
}
// --- of a chart: the step under a place of the window, and what all rows have there
function nearest(x) {
  const at = v.at[0] + (x - stage.getBoundingClientRect().left) / v.s;
  return v.chart.x.reduce((best, k, i) => Math.abs(k - at) < Math.abs(v.chart.x[best] - at) ? i : best, 0);
}
function told(k) {
  const of = (x) => typeof x === "number" ? String(+x.toPrecision(4)) : x;
  return `t = ${v.chart.steps[k]}` + v.chart.rows.map(([name, sizes]) => sizes[k] === null ? "" : `\n${name}: ${of(sizes[k])}`).join("");
}
function dark() {
  const now = root.dataset.theme || (matchMedia("(prefers-color-scheme:dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
}

// --- events
stage.addEventListener("wheel", (e) => {
  e.preventDefault();
  zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), ...local(e));
}, { passive: false });
stage.addEventListener("pointerdown", (e) => { pointers.set(e.pointerId, local(e)); moved = 0; });
addEventListener("pointermove", (e) => {
  const before = pointers.get(e.pointerId);
  if (!before) return explain(stage.contains(e.target) ? under(e.clientX, e.clientY) : null, e.clientX, e.clientY);
  const now = local(e), other = [...pointers].find(([id]) => id !== e.pointerId);
  if (other) zoom(Math.hypot(now[0] - other[1][0], now[1] - other[1][1]) / (Math.hypot(before[0] - other[1][0], before[1] - other[1][1]) || 1), ...other[1]);
  else pan(now[0] - before[0], now[1] - before[1]);
  moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
  pointers.set(e.pointerId, now);
  hint("");
});
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, (e) => pointers.delete(e.pointerId));
stage.addEventListener("click", (e) => {
  if (moved > 5) return;
  const g = under(e.clientX, e.clientY);
  if (!g || !g.matches(".n")) { unlight(); return explain(g, e.clientX, e.clientY); }
  const i = v.index.get(g);
  if (pinned === i) return unlight();
  focus(i);
  light(i);
});
stage.addEventListener("dblclick", fit);
stage.addEventListener("focusin", (e) => {
  if (!v.index.has(e.target) || !e.target.matches(":focus-visible")) return;
  const r = e.target.getBoundingClientRect();
  light(v.index.get(e.target));
  explain(e.target, r.right, r.bottom);
});
stage.addEventListener("focusout", () => hint(""));
stage.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const i = v.index.get(e.target), arrow = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
  if (e.key === "+" || e.key === "=") zoom(1.25);
  else if (e.key === "-") zoom(0.8);
  else if (e.key === "0") fit();
  else if (e.key === "Escape") { unlight(); hint(""); stage.focus(); }
  else if (i !== undefined && (e.key === "Enter" || e.key === " ")) pinned === i ? unlight() : light(i);
  else if (arrow && i === undefined) pan(arrow[0] * 60, arrow[1] * 60);
  else if (arrow && arrow[0]) { // along the edges: left to what it was made of, right to who used it
    const k = arrow[0] > 0 ? v.into[i][0] : v.out[i][0];
    if (k !== undefined) focus(v.edges[k][arrow[0] > 0 ? 0 : 1]);
  } else if (arrow) focus((i + (arrow[1] > 0 ? v.n.length - 1 : 1)) % v.n.length);
  else return;
  e.preventDefault();
});
for (const b of document.querySelectorAll("button[data-level]")) b.onclick = () => level(b.dataset.level);
$("in").onclick = () => zoom(1.25);
$("out").onclick = () => zoom(0.8);
$("fit").onclick = fit;
$("theme").onclick = dark;
$("play").onclick = play;
time.oninput = () => reach(+time.value);
addEventListener("resize", () => look());

// --- a view can be linked to: page.html#level=step&t=3&node=n12&theme=dark
function visit() {
  const ask = new URLSearchParams(location.hash.slice(1)), t = ask.get("t");
  if (["light", "dark"].includes(ask.get("theme"))) root.dataset.theme = ask.get("theme");
  level(ask.get("level") in data.levels ? ask.get("level") : v ? v.name : data.first);
  if (t !== null) reach(Math.max(0, v.times.findIndex((x) => x[0] >= +t)));
  const node = ask.get("node") && v.n.findIndex((g) => g.id === `${v.name}-${ask.get("node")}`);
  if (node !== null && node >= 0) light(node);
}
if (innerWidth < 640) $("legend").open = false;
addEventListener("hashchange", visit);
visit();
