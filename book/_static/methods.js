// The table of all methods: sorted by a click on a head, filtered, and one measure drawn with its intervals.
"use strict";

document.querySelectorAll(".methods").forEach((box) => {
  const body = box.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...box.querySelectorAll("thead th[data-key]")];
  const sets = [...new Set(rows.map((row) => row.dataset.set))];
  const state = { set: sets[0], key: heads[0].dataset.key, single: true, all: false, by: null, down: false };
  const option = (value, text, chosen) => `<option value="${value}"${chosen ? " selected" : ""}>${text}</option>`;
  box.querySelector(".m-controls").innerHTML = `
    <label>Data set <select data-role="set">${sets.map((name) => option(name, name, name === state.set)).join("")}${option("", "all", false)}</select></label>
    <label>Measure <select data-role="key">${heads.map((head) => option(head.dataset.key, head.textContent, head.dataset.key === state.key)).join("")}</select></label>
    <label><input type="checkbox" data-role="single"> hide single seeds</label>
    <label><input type="checkbox" data-role="all"> all measures</label>`;

  // The column of drawings, after the seeds.
  const drawn = document.createElement("th");
  drawn.scope = "col";
  drawn.className = "m-drawn";
  box.querySelector("thead tr").children[2].after(drawn);
  for (const row of rows) {
    const cell = document.createElement("td");
    cell.className = "m-drawn";
    row.children[2].after(cell);
    if (row.dataset.samples) showSamples(row);
  }

  /** What the method makes: the same first draws, shown on hover or focus of its name. */
  function showSamples(row) {
    const name = row.querySelector("th");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "m-name";
    button.textContent = name.textContent;
    button.setAttribute("aria-expanded", "false");
    name.replaceChildren(button);
    let picture = null;
    const show = (shown) => {
      if (shown && !picture) {
        picture = document.createElement("img");
        picture.className = "m-samples dark-light";
        picture.alt = `Ten new images of ${button.textContent} on ${row.dataset.set}`;
        picture.src = `../_static/explorers/samples-${row.dataset.samples}.png`;
        button.after(picture);
      }
      if (picture) picture.hidden = !shown;
      button.setAttribute("aria-expanded", String(shown));
    };
    const byMouse = (shown) => (event) => event.pointerType === "mouse" && show(shown);
    button.addEventListener("pointerenter", byMouse(true));
    button.addEventListener("pointerleave", byMouse(false));
    button.addEventListener("blur", () => show(false));
    button.addEventListener("click", (event) => event.pointerType !== "mouse" && show(button.getAttribute("aria-expanded") !== "true"));
    button.addEventListener("keydown", (event) => event.key === "Escape" && show(false));
  }

  const cell = (row, key) => row.querySelector(`td[data-key="${key}"]`);
  const value = (row) => {
    if (state.by === "method") return row.querySelector("th").textContent;
    if (state.by === "set") return row.dataset.set;
    if (state.by === "seeds") return Number(row.dataset.seeds);
    return Number(cell(row, state.by ?? state.key).dataset.value ?? NaN);
  };

  function draw() {
    const head = heads.find((one) => one.dataset.key === state.key);
    const shown = rows.filter((row) => (!state.set || row.dataset.set === state.set) && (state.single || Number(row.dataset.seeds) > 1));
    rows.forEach((row) => (row.hidden = !shown.includes(row)));
    const falling = state.by === null ? head.dataset.better === "higher" : state.down;
    const sorted = [...shown].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x === "string") return (falling ? -1 : 1) * x.localeCompare(y);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return (falling ? -1 : 1) * (x - y);
    });
    body.append(...sorted);
    for (const one of [...heads, ...box.querySelectorAll("td[data-key]")])
      one.classList.toggle("m-away", !state.all && one.dataset.key !== state.key);
    box.querySelectorAll("thead tr > :nth-child(2), tbody tr > :nth-child(2)").forEach((one) => one.classList.toggle("m-away", Boolean(state.set)));
    box.querySelectorAll("thead th").forEach((one) => one.removeAttribute("aria-sort"));
    const by = state.by === null ? head : { method: 0, set: 1, seeds: 2 }[state.by] !== undefined ? box.querySelectorAll("thead th")[{ method: 0, set: 1, seeds: 2 }[state.by]] : heads.find((one) => one.dataset.key === state.by);
    by.setAttribute("aria-sort", falling ? "descending" : "ascending");
    drawIntervals(sorted, head);
  }

  /** A dot and its interval for each row, on one scale; what lies far beyond the others stands at the edge. */
  function drawIntervals(shown, head) {
    const numbers = shown.map((row) => cell(row, state.key)).filter((one) => one.dataset.value !== undefined);
    const values = numbers.map((one) => Number(one.dataset.value)).sort((a, b) => a - b);
    const middle = values[Math.floor(values.length / 2)] ?? 1;
    const ends = numbers.flatMap((one) => [-1, 1].map((side) => Number(one.dataset.value) + side * Number(one.dataset.half ?? 0)));
    const high = Math.min(Math.max(...ends, 1e-12), 2.5 * Math.abs(middle) || Infinity);
    const low = Math.min(0, ...ends);
    const at = (x) => `${(4 + (92 * (Math.min(Math.max(x, low), high) - low)) / (high - low)).toFixed(1)}%`;
    drawn.textContent = `${head.textContent}${head.dataset.better ? ` (${head.dataset.better} is better)` : ""}`;
    for (const row of rows) {
      const own = cell(row, state.key);
      const place = row.querySelector(".m-drawn");
      if (own.dataset.value === undefined || row.hidden) {
        place.replaceChildren();
        continue;
      }
      const x = Number(own.dataset.value);
      const half = own.dataset.half === undefined ? null : Number(own.dataset.half);
      const line = half === null ? "" : `<line x1="${at(x - half)}" x2="${at(x + half)}" y1="9" y2="9"/>`;
      const mark = x > high ? `<text x="96%" y="13" text-anchor="end">→</text>` : `<circle class="${half === null ? "m-hollow" : ""}" cx="${at(x)}" cy="9" r="4.5"/>`;
      place.innerHTML = `<svg height="18" aria-hidden="true"><line class="m-zero" x1="${at(0)}" x2="${at(0)}" y1="0" y2="18"/>${line}${mark}</svg>`;
    }
  }

  box.querySelectorAll("thead th").forEach((head, k) => {
    if (head === drawn) return;
    const by = head.dataset.key ?? ["method", "set", "seeds"][k];
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      state.down = state.by === by ? !state.down : false;
      state.by = by;
      draw();
    });
  });
  box.querySelector(".m-controls").addEventListener("change", ({ target }) => {
    const { role } = target.dataset;
    if (role === "single") state.single = !target.checked;
    else if (role === "all") state.all = target.checked;
    else state[role] = target.value;
    if (role === "key") state.by = null;
    draw();
  });
  draw();
});
