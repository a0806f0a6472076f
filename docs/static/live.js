// Predictions are remembered and results wait for them; a slider shows one picture at a time. Nothing is sent anywhere.
(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("live");

  // A browser may forbid storage, for pages opened from a disk for instance: then nothing is remembered.
  function recall(key) { try { return localStorage.getItem(key); } catch { return null; } }
  function remember(key, value) {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, value);
    } catch { /* not remembered */ }
  }

  for (const box of document.querySelectorAll("fieldset.predict")) {
    const key = "tinygrad_rnn predict " + box.dataset.key;
    const inputs = [...box.querySelectorAll("input")];
    const said = box.querySelector(".said");
    const words = (input) => input.parentElement.textContent.trim().replace(/\.$/, "");
    const show = (value) => {
      const chosen = inputs.find((input) => input.value === value);
      const right = inputs.find((input) => input.value === box.dataset.right);
      for (const input of inputs) input.checked = input === chosen;
      box.classList.toggle("answered", value !== null);
      said.textContent = !chosen ? "" : chosen === right
        ? "You said: " + words(chosen) + ". So it was measured."
        : "You said: " + words(chosen) + ". Measured: " + words(right) + ".";
    };
    const answer = (value) => { remember(key, value); show(value); };
    for (const input of inputs) input.addEventListener("change", () => answer(input.value));
    box.querySelector(".skip button").addEventListener("click", () => answer("skipped"));
    box.querySelector(".again button").addEventListener("click", () => { answer(null); inputs[0].focus(); });
    show(recall(key));
    // A link to a place further down is followed, answered or not.
    const follow = () => {
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      const after = Node.DOCUMENT_POSITION_FOLLOWING;
      if (!target || !(box.compareDocumentPosition(target) & after) || box.classList.contains("answered")) return;
      show("skipped");
      target.scrollIntoView();
    };
    addEventListener("hashchange", follow);
    follow();
  }

  for (const figure of document.querySelectorAll("figure.slider")) {
    const frames = [...figure.querySelectorAll(".frame")];
    const range = figure.querySelector("input[type=range]");
    const show = () => {
      const k = Number(range.value);
      frames.forEach((frame, j) => frame.classList.toggle("shown", j === k));
      range.setAttribute("aria-valuetext", frames[k].dataset.label);
    };
    // Pictures that are not seen yet are fetched when the slider is first touched, so that none flickers.
    const fetchAll = () => { for (const image of figure.querySelectorAll("img")) image.loading = "eager"; };
    range.addEventListener("pointerdown", fetchAll, { once: true });
    range.addEventListener("focus", fetchAll, { once: true });
    range.addEventListener("input", show);
    show();
  }
})();
