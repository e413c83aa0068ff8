// The decoders of recorded runs, in the reader's browser: a map of encoded test images, and lines between two of them.
// networks.js computes; each run is a script of its own, fetched when the reader comes near.
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});
  // ---------------------------------------------------------------- the page
  const box = document.getElementById("latent-explorer");
  const runs = box ? JSON.parse(box.dataset.runs) : {};
  const titles = box ? JSON.parse(box.dataset.titles) : {};
  const { models, paint } = explorer;
  /** The runs of a data set. */
  explorer.load = (dataset) => Promise.all(runs[dataset].map((method) => explorer.fetch(`${dataset}-${method}`)));
  if (!box) return;

  const EXTENT = 3.4; // the map reaches this many standard deviations of the prior from its mean
  const SIZE = 1000; // units of the map's drawing
  const FRAMES = 9;
  const METHODS = { wwae: "WWAE", vae: "VAE" };
  const pairs = JSON.parse(box.dataset.pairs);
  const PLANES = { whole: "of the codes", classes: "in which the classes lie farthest apart", principal: "of the two leading principal components" };

  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const number = (x, digits = 2) => (Math.abs(x) < 0.5 * 10 ** -digits ? 0 : x).toFixed(digits).replace("-", "−");
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const toMap = ([x, y]) => [((x / EXTENT + 1) * SIZE) / 2, ((1 - y / EXTENT) * SIZE) / 2];

  const state = { dataset: Object.keys(runs)[0], plane: 0, others: "zero", pair: [0, 0], t: 0, onLine: true, points: {}, shown: null };
  explorer.state = state;
  let parts = {}; // method -> its elements on the page

  const model = (method) => models[`${state.dataset}-${method}`];
  const methods = () => runs[state.dataset];
  const basis = (method) => model(method).planes[state.plane].basis;
  const codeOf = (method, i) => model(method).codes.subarray(i * model(method).latent, (i + 1) * model(method).latent);
  const project = (method, code) => basis(method).map((direction) => dot(direction, code));

  /** The code of a point of the map: its place in the plane, and the other coordinates as chosen. */
  function codeAt(method, point) {
    const base = state.others === "nearest" ? codeOf(method, nearestOnMap(method, point)) : new Float32Array(model(method).latent);
    const shift = project(method, base).map((x, k) => point[k] - x);
    return Array.from(base, (x, i) => x + shift[0] * basis(method)[0][i] + shift[1] * basis(method)[1][i]);
  }

  function nearest(n, distance) {
    let [best, least] = [0, Infinity];
    for (let i = 0; i < n; i++) {
      const d = distance(i);
      if (d < least) [best, least] = [i, d];
    }
    return [best, Math.sqrt(least)];
  }

  function nearestOnMap(method, [x, y]) {
    const places = parts[method].places;
    return nearest(places.length / 2, (i) => (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2)[0];
  }

  const nearestCode = (method, code) => explorer.nearest(model(method), code);

  // ---------------------------------------------------------------- building
  function svg(tag, attributes = {}, parent = null) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, content] of Object.entries(attributes)) element.setAttribute(name, content);
    if (parent) parent.append(element);
    return element;
  }

  function html(markup) {
    const template = document.createElement("template");
    template.innerHTML = markup.trim();
    return template.content.firstChild;
  }

  function build() {
    const { classes, latent } = model(methods()[0]);
    const option = (content, text, chosen) => `<option value="${content}"${chosen ? " selected" : ""}>${text}</option>`;
    const pick = (id) => `<select id="${id}">${classes.map((name, k) => option(k, name)).join("")}</select>`;
    box.innerHTML = `
      <div class="ex-row">
        <label class="ex-choice" ${Object.keys(runs).length > 1 ? "" : "hidden"}>Data set <select id="ex-dataset">${Object.keys(runs).map((name) => option(name, titles[name], name === state.dataset)).join("")}</select></label>
        <label class="ex-choice" ${latent > 2 ? "" : "hidden"}>Plane <select id="ex-map-plane">${model(methods()[0]).planes.map((plane, k) => option(k, PLANES[plane.name], k === state.plane)).join("")}</select></label>
        <label class="ex-choice" ${latent > 2 ? "" : "hidden"}><span>Other ${latent - 2} coordinates</span> <select id="ex-others">${option("zero", "0, the prior’s mean", state.others === "zero")}${option("nearest", "the nearest image’s", state.others === "nearest")}</select></label>
      </div>
      <div class="ex-columns"></div>
      <div class="ex-row ex-classes" role="group" aria-label="Show one class alone"></div>
      <div class="ex-row ex-ends">
        <label class="ex-choice">From ${pick("ex-from")}</label>
        <label class="ex-choice">to ${pick("ex-to")}</label>
        <button type="button" data-action="others">Other examples</button>
        <button type="button" data-action="prior">Draw from the prior</button>
      </div>
      <div class="ex-row">
        <label for="ex-interpolation">On the line, <i>t</i> = <output for="ex-interpolation" data-value="t"></output></label>
        <input id="ex-interpolation" type="range" min="0" max="1" step="0.01">
      </div>
      <div class="ex-strips" aria-hidden="true"></div>
      <p class="ex-help">Drag the ring, or touch the map anywhere. By keyboard: Tab to a ring, then arrow keys (with Shift: five times as far).</p>
      <div class="ex-hidden" role="status"></div>`;
    parts = {};
    methods().forEach(buildColumn);
    buildClasses(classes);
    methods().forEach(buildStrip);
    listen();
  }

  function buildColumn(method) {
    const name = METHODS[method] ?? method;
    const { latent, shape } = model(method);
    const column = html(`
      <div class="ex-column">
        <p class="ex-title">${name}</p>
        <svg class="ex-map" viewBox="0 0 ${SIZE} ${SIZE}" role="group" aria-label="Map of the ${name}'s codes of test images"></svg>
        <canvas class="ex-picture" role="img" width="${shape[2]}" height="${shape[1]}"></canvas>
        <p class="ex-reading"></p>
      </div>`);
    box.querySelector(".ex-columns").append(column);
    const map = column.querySelector("svg");
    const back = svg("g", { "aria-hidden": "true" }, map);
    const [x, y] = toMap([0, 0]);
    svg("path", { class: "ex-grid", d: `M0 ${y}H${SIZE}M${x} 0V${SIZE}` }, back);
    for (const r of [1, 2]) svg("circle", { class: "ex-prior", cx: x, cy: y, r: (r * SIZE) / 2 / EXTENT }, back);
    const dots = svg("g", {}, back);
    const names = svg("g", {}, back);
    const line = svg("path", { class: "ex-line" }, back);
    const ends = ["A", "B"].map((letter) => {
      const mark = svg("g", { class: "ex-end" }, back);
      svg("circle", { r: 9 }, mark);
      svg("text", { y: -20 }, mark).textContent = letter;
      return mark;
    });
    const tie = svg("path", { class: "ex-tie" }, back);
    const ring = svg("g", {
      class: "ex-handle ex-marker", tabindex: 0, role: "slider", "aria-roledescription": "point on the map",
      "aria-label": `Code that the ${name} decodes`, "aria-valuemin": -EXTENT, "aria-valuemax": EXTENT,
    }, map);
    const scaled = svg("g", {}, ring);
    svg("circle", { class: "ex-hit", r: 22 }, scaled);
    svg("circle", { class: "ex-ring", r: 14 }, scaled);
    svg("circle", { class: "ex-knob", r: 7 }, scaled);
    const canvas = column.querySelector("canvas");
    parts[method] = { name, latent, map, dots, names, line, ends, tie, ring, scaled, canvas, reading: column.querySelector(".ex-reading"), places: null, strip: [] };
    listenOnMap(method);
  }

  function buildClasses(classes) {
    const group = box.querySelector(".ex-classes");
    classes.forEach((name, k) => {
      const button = html(`<button type="button" class="ex-class ex-class${k}" aria-pressed="false">${name}</button>`);
      button.addEventListener("click", () => {
        state.shown = state.shown === k ? null : k;
        showClasses();
      });
      group.append(button);
    });
  }

  function buildStrip(method) {
    const [, height, width] = model(method).shape;
    const row = html(`<div class="ex-strip"><span>${METHODS[method] ?? method}</span></div>`);
    for (let k = 0; k < FRAMES; k++) {
      const canvas = html(`<canvas width="${width}" height="${height}"></canvas>`);
      row.append(canvas);
      parts[method].strip.push(canvas);
    }
    box.querySelector(".ex-strips").append(row);
  }

  // ---------------------------------------------------------------- drawing
  /** Everything that a plane decides: places, dots by class, the classes' names at their means. */
  function drawMap(method) {
    const part = parts[method];
    const { labels, classes } = model(method);
    part.places = new Float32Array(2 * labels.length);
    const paths = classes.map(() => "");
    const sums = classes.map(() => [0, 0, 0]);
    labels.forEach((label, i) => {
      const place = project(method, codeOf(method, i));
      part.places.set(place, 2 * i);
      const [x, y] = toMap(place);
      paths[label] += `M${x.toFixed(0)} ${y.toFixed(0)}h0`;
      [x, y, 1].forEach((v, k) => (sums[label][k] += v));
    });
    part.dots.replaceChildren(...paths.map((d, k) => svg("path", { class: `ex-dots ex-class${k}`, d })));
    part.middles = sums.map(([x, y, n]) => [x / n, y / n]);
    part.names.replaceChildren(...classes.map((name, k) => {
      const text = svg("text", { class: `ex-name ex-class${k}${name.length > 2 ? " ex-long" : ""}` });
      text.textContent = name;
      return text;
    }));
    placeNames(method);
    const share = Math.round(100 * model(method).planes[state.plane].share);
    box.querySelector("#ex-map-plane").title = `holds ${share}% of the codes' variance`;
    part.map.setAttribute("aria-label", `Map of the ${part.name}'s codes of ${labels.length} test images, in a plane that holds ${share}% of their variance`);
    showClasses();
  }

  /** The classes' names at their means, moved apart as far as their size on the screen needs. */
  function placeNames(method) {
    const part = parts[method];
    const unit = part.unit ?? 3;
    const widths = model(method).classes.map((name) => (name.length > 2 ? 6.4 * name.length : 15) * unit);
    apart(part.middles, widths, 17 * unit).forEach(([x, y], k) => {
      const [half, name] = [widths[k] / 2, part.names.children[k]];
      name.setAttribute("x", clamp(x, half, SIZE - half).toFixed(0));
      name.setAttribute("y", clamp(y, 9 * unit, SIZE - 9 * unit).toFixed(0));
    });
  }

  /** Names moved from their places until none overlaps another: each pair steps apart the shorter way. */
  function apart(places, widths, height) {
    const found = places.map((place) => [...place]);
    for (let round = 0; round < 200; round++)
      for (let i = 0; i < found.length; i++)
        for (let j = i + 1; j < found.length; j++) {
          const by = [0, 1].map((k) => found[j][k] - found[i][k]);
          const missing = [(widths[i] + widths[j]) / 2, height].map((gap, k) => gap - Math.abs(by[k]));
          if (Math.min(...missing) <= 0) continue;
          const k = missing[0] < missing[1] ? 0 : 1;
          const step = (by[k] < 0 ? -1 : 1) * (missing[k] / 2 + 0.5);
          found[i][k] -= step;
          found[j][k] += step;
        }
    return found;
  }

  function showClasses() {
    for (const part of Object.values(parts))
      for (const group of [part.dots, part.names])
        [...group.children].forEach((element, k) => element.classList.toggle("ex-faint", state.shown !== null && state.shown !== k));
    [...box.querySelector(".ex-classes").children].forEach((button, k) => button.setAttribute("aria-pressed", String(state.shown === k)));
  }

  function drawPoint(method) {
    const part = parts[method];
    const { code, place } = state.points[method];
    const { classes, labels, shape } = model(method);
    paint(part.canvas, explorer.decode(state.dataset, method, code), shape[0]);
    const [x, y] = toMap(place);
    part.ring.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    part.ring.setAttribute("aria-valuenow", place[0].toFixed(2));
    const [index, distance] = nearestCode(method, code);
    const [nx, ny] = toMap(part.places.subarray(2 * index, 2 * index + 2));
    part.tie.setAttribute("d", `M${x.toFixed(1)} ${y.toFixed(1)}L${nx.toFixed(1)} ${ny.toFixed(1)}`);
    const found = classes[labels[index]];
    part.reading.innerHTML = `nearest code: <b>${found}</b>, ${number(distance)} away; |<i>z</i>| = ${number(Math.sqrt(dot(code, code)))}`;
    part.ring.setAttribute("aria-valuetext", `${number(place[0])} across, ${number(place[1])} up; nearest encoded image: ${found}`);
    part.canvas.setAttribute("aria-label", `Image decoded by the ${part.name}; the nearest encoded test image shows ${found}`);
    announce();
  }

  function drawLine() {
    box.querySelector('[data-value="t"]').textContent = number(state.t);
    const slider = box.querySelector("#ex-interpolation");
    slider.value = state.t;
    slider.setAttribute("aria-valuetext", `t = ${number(state.t)}`);
    for (const method of methods()) {
      const part = parts[method];
      const [from, to] = state.pair.map((i) => toMap(part.places.subarray(2 * i, 2 * i + 2)).map((v) => v.toFixed(1)));
      part.line.setAttribute("d", `M${from.join(" ")}L${to.join(" ")}`);
      [from, to].forEach((at, k) => part.ends[k].setAttribute("transform", `translate(${at.join(" ")})`));
      part.strip.forEach((canvas, k) =>
        canvas.classList.toggle("ex-current", state.onLine && Math.round(state.t * (FRAMES - 1)) === k));
    }
  }

  const onLine = (method, t) => Array.from(codeOf(method, state.pair[0]), (a, k) => (1 - t) * a + t * codeOf(method, state.pair[1])[k]);

  function drawStrips() {
    for (const method of methods())
      parts[method].strip.forEach((canvas, k) =>
        paint(canvas, explorer.decode(state.dataset, method, onLine(method, k / (FRAMES - 1))), model(method).shape[0]));
  }

  let pending = null;
  function announce() {
    clearTimeout(pending); // screen readers hear where a movement ended, not every step of it
    pending = setTimeout(() => {
      const words = methods().map((method) => `${parts[method].name}: ${parts[method].reading.textContent}`);
      box.querySelector('[role="status"]').textContent = words.join(". ");
    }, 400);
  }

  // ---------------------------------------------------------------- moving
  function moveTo(method, place) {
    const held = place.map((x) => clamp(x, -EXTENT, EXTENT));
    state.points[method] = { place: held, code: codeAt(method, held) };
    state.onLine = false;
    drawPoint(method);
    drawLine();
  }

  function slideTo(t) {
    Object.assign(state, { t, onLine: true });
    for (const method of methods()) {
      const code = onLine(method, t);
      state.points[method] = { code, place: project(method, code) };
      drawPoint(method);
    }
    drawLine();
  }

  /** One draw from N(0, I), decoded by every model. */
  function drawPrior() {
    state.onLine = false;
    const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    const code = Array.from({ length: model(methods()[0]).latent }, normal);
    for (const method of methods()) {
      state.points[method] = { code, place: project(method, code) };
      drawPoint(method);
    }
    drawLine();
  }

  /** Which image of a class has the code nearest to the mean of its class, by the first model. */
  function typical(label) {
    const { latent, labels } = model(methods()[0]);
    const own = [...labels.keys()].filter((i) => labels[i] === label);
    const mean = Array.from({ length: latent }, (_, k) => own.reduce((sum, i) => sum + codeOf(methods()[0], i)[k], 0) / own.length);
    const [best] = nearest(own.length, (j) => mean.reduce((sum, x, k) => sum + (codeOf(methods()[0], own[j])[k] - x) ** 2, 0));
    return own[best];
  }

  /** The pair of test images: typical ones of their classes, or the next ones after the present pair. */
  function choosePair(from, to, next = false) {
    const { labels } = model(methods()[0]);
    const after = (label, i) => (next ? [labels.indexOf(label, i + 1), labels.indexOf(label)].find((found) => found >= 0) : typical(label));
    const first = after(from, state.pair[0]);
    let second = after(to, state.pair[1]);
    if (second === first) second = Math.max(labels.indexOf(to, first + 1), labels.indexOf(to));
    state.pair = [first, second];
    drawStrips();
    slideTo(state.t);
  }

  function listenOnMap(method) {
    const { map, ring } = parts[method];
    const at = (event) => {
      const frame = map.getBoundingClientRect();
      return [(2 * (event.clientX - frame.left)) / frame.width - 1, 1 - (2 * (event.clientY - frame.top)) / frame.height].map((x) => x * EXTENT);
    };
    let frame = null; // at most one decoding a frame
    const soon = (place) => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => moveTo(method, place));
    };
    map.addEventListener("pointerdown", (event) => {
      const onRing = ring.contains(event.target);
      // A finger that starts beside the ring scrolls the page; where it only taps, the click below moves the ring.
      if (event.button !== 0 || (event.pointerType === "touch" && !onRing)) return;
      event.preventDefault();
      const grip = onRing ? at(event).map((x, k) => state.points[method].place[k] - x) : [0, 0];
      const move = (e) => soon(at(e).map((x, k) => x + grip[k]));
      map.setPointerCapture(event.pointerId);
      ring.focus({ preventScroll: true });
      ring.classList.add("ex-held");
      if (!onRing) move(event);
      map.addEventListener("pointermove", move);
      map.addEventListener("lostpointercapture", () => {
        map.removeEventListener("pointermove", move);
        ring.classList.remove("ex-held");
      }, { once: true });
    });
    map.addEventListener("click", (event) => {
      if (event.pointerType === "touch" && !ring.contains(event.target)) soon(at(event));
    });
    // touch-action says the same, but not every browser heeds it inside a drawing.
    ring.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    ring.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const step = event.shiftKey ? 0.5 : 0.1;
      moveTo(method, state.points[method].place.map((x, k) => x + step * way[k]));
    });
  }

  function listen() {
    const on = (selector, kind, action) => box.querySelector(selector).addEventListener(kind, (event) => action(event.target));
    on("#ex-dataset", "change", (select) => show(select.value).then(() => box.querySelector("#ex-dataset").focus()));
    on("#ex-map-plane", "change", (select) => {
      state.plane = Number(select.value);
      for (const method of methods()) {
        drawMap(method);
        state.points[method].place = project(method, state.points[method].code);
        drawPoint(method);
      }
      drawLine();
    });
    on("#ex-others", "change", (select) => {
      state.others = select.value;
      for (const method of methods()) moveTo(method, state.points[method].place);
    });
    const chosen = () => ["#ex-from", "#ex-to"].map((id) => Number(box.querySelector(id).value));
    on("#ex-from", "change", () => choosePair(...chosen()));
    on("#ex-to", "change", () => choosePair(...chosen()));
    on('[data-action="prior"]', "click", drawPrior);
    on('[data-action="others"]', "click", () => choosePair(...chosen(), true));
    on("#ex-interpolation", "input", (slider) => slideTo(Number(slider.value)));
  }

  /** Rings and letters keep their size on the screen, whatever the size of the map. */
  function fit() {
    for (const [method, part] of Object.entries(parts)) {
      const width = part.map.clientWidth;
      if (!width) continue;
      const unit = SIZE / width;
      const visible = width < 250 ? 0.75 : 1;
      part.scaled.setAttribute("transform", `scale(${unit.toFixed(3)})`);
      part.scaled.querySelector(".ex-ring").setAttribute("r", 14 * visible);
      part.scaled.querySelector(".ex-knob").setAttribute("r", 7 * visible);
      part.ends.forEach((mark) => mark.querySelector("text").setAttribute("y", (-19 * visible * unit).toFixed(1)));
      part.map.style.setProperty("--ex-unit", `${(visible * unit).toFixed(3)}px`);
      part.unit = visible * unit;
      if (part.middles) placeNames(method);
    }
  }

  async function show(dataset) {
    box.setAttribute("aria-busy", "true");
    try {
      await explorer.load(dataset);
    } catch (error) {
      box.querySelector(".ex-message, [role='status']").textContent = `${error.message}; the figure stays still.`;
      return;
    } finally {
      box.removeAttribute("aria-busy");
    }
    Object.assign(state, { dataset, points: {}, shown: null, t: 0 });
    build();
    methods().forEach(drawMap);
    fit();
    const [from, to] = pairs[dataset];
    box.querySelector("#ex-from").value = from;
    box.querySelector("#ex-to").value = to;
    choosePair(from, to);
    explorer.ready = dataset;
  }

  new ResizeObserver(fit).observe(box);
  let called = false;
  const begin = () => {
    if (!called) show(state.dataset);
    called = true;
  };
  // Weights are half a megabyte a run: they come when the reader does.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    begin();
  }, { rootMargin: "300px" }).observe(box);
  box.addEventListener("pointerdown", begin, { once: true });
})();
