// Two trainings side by side, moment by moment: codes, their ellipse against the prior's circle, the loss' terms, new images.
// The recorded moments are scripts of their own (made by `python -m wwae_lib export`), fetched when the reader comes near.
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const box = document.getElementById("film-explorer");
  if (!box) return;
  const films = {};
  explorer.film = (record) => (films[record.name] = record);

  const SIZE = 1000; // units of a map's drawing
  const EXTENT = 3.6; // it reaches this many standard deviations of the prior from its mean
  const SPEED = 130; // milliseconds a moment
  const { names, titles } = JSON.parse(box.dataset.films);
  const state = (explorer.films = { moment: null, ready: false, films });
  const place = (x, y) => [((x / EXTENT + 1) * SIZE) / 2, ((1 - y / EXTENT) * SIZE) / 2];
  const number = (x, digits) => x.toFixed(digits).replace("-", "−");

  function svg(tag, attributes = {}, parent = null) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, content] of Object.entries(attributes)) element.setAttribute(name, content);
    parent?.append(element);
    return element;
  }

  // ---------------------------------------------------------------- reading
  function read(record) {
    record.codes = record.frames.map(({ codes }) => Int8Array.from(atob(codes), (c) => c.charCodeAt(0)));
    record.picture = new Image();
    record.picture.src = `data:image/png;base64,${record.samples}`;
    return record.picture.decode();
  }

  /** The ellipse of r standard deviations of a covariance: lengths of its axes and the angle of the first. */
  function axes([[a, b], [, c]]) {
    const [middle, half] = [(a + c) / 2, Math.hypot((a - c) / 2, b)];
    return [middle + half, middle - half].map((x) => Math.sqrt(Math.max(x, 0))).concat(((-Math.atan2(2 * b, a - c) / 2) * 180) / Math.PI);
  }

  // ---------------------------------------------------------------- the page
  const parts = {};
  function build() {
    box.querySelector(".ex-film-controls").innerHTML = `
      <button type="button" data-action="play">Play</button>
      <label for="ex-moment">After <output for="ex-moment"></output> steps</label>
      <input id="ex-moment" type="range" min="0" max="${films[names[0]].frames.length - 1}" step="1">`;
    names.forEach((name, k) => {
      const column = box.querySelectorAll(".ex-column")[k];
      column.innerHTML = `<p class="ex-title">${titles[k]}</p>
        <svg class="ex-map" viewBox="0 0 ${SIZE} ${SIZE}" role="img"></svg>
        <p class="ex-reading"></p><canvas class="ex-samples" role="img" width="${8 * 28}" height="${2 * 28}"></canvas>`;
      const map = column.querySelector("svg");
      const part = (parts[name] = { map, reading: column.querySelector(".ex-reading"), canvas: column.querySelector("canvas") });
      part.dots = Array.from({ length: 10 }, (_, label) => svg("path", { class: `ex-dots ex-class${label}` }, map));
      for (const r of [1, 2]) svg("circle", { class: "ex-prior", cx: SIZE / 2, cy: SIZE / 2, r: (r * SIZE) / 2 / EXTENT }, map);
      part.ellipses = [1, 2].map(() => svg("ellipse", { class: "ex-posterior" }, map));
    });
    box.querySelectorAll(".ex-curve").forEach((curve) => drawCurve(curve));
    const slider = box.querySelector("#ex-moment");
    slider.addEventListener("input", () => {
      stop();
      show(Number(slider.value));
    });
    box.querySelector("[data-action=play]").addEventListener("click", () => (timer === null ? play() : stop()));
  }

  /** Error or penalty of both, against the logarithm of the steps, with a cursor; each curve has its name. */
  function drawCurve(curve) {
    const key = curve.dataset.key;
    const [width, height, left, bottom, top] = [340, 150, 34, 22, 24];
    const frames = films[names[0]].frames;
    const across = (step) => left + ((width - left - 8) * Math.log(step + 1)) / Math.log(frames.at(-1).step + 1);
    const values = names.flatMap((name) => films[name].frames.map((frame) => frame[key]));
    const high = Math.max(...(key === "penalty" ? values.filter((x) => x < 4) : values)); // the first moments leave the page
    const down = (value) => top + (height - top - bottom) * (1 - Math.min(value / high, 1));
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${curve.dataset.title} of both trainings` });
    const words = (x, y, text, anchor = "start") => (svg("text", { x, y, "text-anchor": anchor, class: "ex-axis" }, drawing).textContent = text);
    words(2, 13, curve.dataset.title);
    for (const share of [0, 0.5, 1]) {
      const value = high * share;
      svg("path", { class: "ex-grid", d: `M${left} ${down(value)}H${width - 8}` }, drawing);
      words(left - 5, down(value) + 4, value >= 10 ? value.toFixed(0) : value.toFixed(1), "end");
    }
    for (const step of [0, 9, 99, 999]) if (step <= frames.at(-1).step) words(across(step), height - 5, step ? step + 1 : "1", "middle");
    names.forEach((name, k) => {
      const path = films[name].frames.map((frame, i) => `${i ? "L" : "M"}${across(frame.step).toFixed(1)} ${down(frame[key]).toFixed(1)}`).join("");
      svg("path", { class: `ex-line${k}`, d: path }, drawing);
    });
    const cursor = svg("path", { class: "ex-cursor" }, drawing);
    curve.replaceChildren(drawing);
    (state.cursors ||= []).push((step) => cursor.setAttribute("d", `M${across(step).toFixed(1)} ${top}V${height - bottom}`));
  }

  function show(moment) {
    state.moment = moment;
    const { step } = films[names[0]].frames[moment];
    const slider = box.querySelector("#ex-moment");
    slider.value = moment;
    slider.setAttribute("aria-valuetext", `after ${step} steps`);
    box.querySelector(".ex-film-controls output").textContent = step;
    state.cursors.forEach((move) => move(step));
    names.forEach((name, k) => {
      const { frames, codes, labels, scale, picture } = films[name];
      const { dots, ellipses, reading, canvas, map } = parts[name];
      const frame = frames[moment];
      const paths = Array.from({ length: 10 }, () => []);
      for (let i = 0; i < labels.length; i++) {
        const [x, y] = place(codes[moment][2 * i] / scale, codes[moment][2 * i + 1] / scale);
        paths[labels[i]].push(`M${x.toFixed(0)} ${y.toFixed(0)}h0`);
      }
      dots.forEach((path, label) => path.setAttribute("d", paths[label].join("")));
      const [first, second, angle] = axes(frame.covariance);
      const unit = SIZE / 2 / EXTENT;
      ellipses.forEach((ellipse, r) => {
        ellipse.setAttribute("rx", ((r + 1) * first * unit).toFixed(1));
        ellipse.setAttribute("ry", ((r + 1) * second * unit).toFixed(1));
        ellipse.setAttribute("transform", `translate(${place(...frame.mean).map((v) => v.toFixed(1)).join(" ")}) rotate(${angle.toFixed(1)})`);
      });
      reading.innerHTML = `squared error <b>${number(frame.error, 1)}</b>, penalty <b>${number(frame.penalty, 2)}</b>, encoder's noise <b>${number(frame.noise, 2)}</b>`;
      map.setAttribute("aria-label", `${titles[k]}, after ${step} steps: codes of 1,000 test images, their ellipses, and the prior's circles`);
      const context = canvas.getContext("2d");
      for (const row of [0, 1]) context.drawImage(picture, row * 8 * 28, moment * 28, 8 * 28, 28, 0, row * 28, 8 * 28, 28);
      canvas.setAttribute("aria-label", `${titles[k]}: sixteen draws from the prior, decoded after ${step} steps`);
    });
  }

  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    box.querySelector("[data-action=play]").textContent = "Play";
  }
  function play() {
    const last = films[names[0]].frames.length - 1;
    if (state.moment >= last) show(0);
    box.querySelector("[data-action=play]").textContent = "Pause";
    timer = setInterval(() => {
      show(state.moment + 1);
      if (state.moment >= last) stop();
    }, SPEED);
  }

  async function begin() {
    box.setAttribute("aria-busy", "true");
    try {
      await Promise.all(names.map((name) => new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${folder}film-${name}.js`;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${script.src} could not be loaded`));
        document.head.append(script);
      })));
      await Promise.all(names.map((name) => read(films[name])));
    } catch (error) {
      box.querySelector(".ex-message").textContent = `${error.message}; the figure stays still.`;
      return;
    } finally {
      box.removeAttribute("aria-busy");
    }
    build();
    show(films[names[0]].frames.length - 1);
    state.ready = true;
  }
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    begin();
  }, { rootMargin: "300px" }).observe(box);
})();
