// A digit drawn by hand: where the encoders of recorded runs put it, how the decoders draw it again, and draws from the prior.
// networks.js computes. The page holds a still figure; the networks come when the reader first points at it.
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});
  const box = document.getElementById("draw-explorer");
  if (!box) return;

  const SIDE = 28;
  const FINE = 4; // strokes are drawn so much finer, then averaged, which makes their edges soft
  const INK = 2.4; // width of a stroke, in pixels of the image
  const FILLED = 20; // MNIST's digits fill a square of 20 pixels, with their centre of mass in the middle of 28
  const LEAST = 0.3; // of the paper's side: what is smaller, such as a first dot, is not enlarged to fill it
  const { dataset, methods, titles, extent } = JSON.parse(box.dataset.draw);
  const size = 1000; // units of the maps' drawing

  const find = (selector) => box.querySelector(selector);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const number = (x, digits) => (Math.abs(x) < 0.5 * 10 ** -digits ? 0 : x).toFixed(digits).replace("-", "−");
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  // ---------------------------------------------------------------- the page
  const still = find(".ex-paper img");
  const paper = document.createElement("canvas");
  Object.assign(paper, { width: SIDE, height: SIDE, tabIndex: 0, className: "ex-drawn" });
  for (const [name, content] of Object.entries({
    role: "application",
    "aria-label": "Paper to draw a digit on",
    "aria-describedby": "ex-draw-help",
    "aria-roledescription": "drawing paper",
  })) paper.setAttribute(name, content);
  const frame = find(".ex-paper");
  const pen = document.createElement("i"); // shown to those who draw by keyboard
  pen.className = "ex-pen";
  frame.append(paper, pen);
  find(".ex-buttons").innerHTML = `
    <button type="button" data-action="new">New digit</button>
    <button type="button" data-action="test">Test digit</button>
    <button type="button" data-action="clear">Clear</button>`;
  find(".ex-message").innerHTML = `
    <span id="ex-draw-help" class="ex-help">Draw with mouse or finger. By keyboard: Tab to the paper, arrow keys move the pen
    (with Shift: further), the space bar sets it down and lifts it, Delete clears.</span>`;
  const parts = methods.map((method, k) => {
    const column = box.querySelectorAll(".ex-column")[k];
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: SIDE, height: SIDE, className: "ex-again" });
    canvas.setAttribute("role", "img");
    const picture = column.querySelector(".ex-again");
    canvas.setAttribute("aria-label", picture.alt);
    const own = { method, title: titles[k], canvas, here: column.querySelector(".ex-here"), reading: column.querySelector(".ex-reading"), map: column.querySelector("svg"), tries: 0 };
    own.keep = () => picture.isConnected && picture.replaceWith(canvas); // the still picture stays until there is another
    return own;
  });

  const strokes = []; // of points [x, y], in sides of the paper
  const state = (explorer.drawing = { strokes, shown: "still", image: null, code: null, seen: null, cost: 0, ready: false, answered: 0 });

  // ---------------------------------------------------------------- from strokes to an image
  const board = document.createElement("canvas");
  board.width = board.height = SIDE * FINE;
  const chalk = board.getContext("2d", { willReadFrequently: true });

  /** The strokes as an image in [0, 1], after x -> scale x + shift (in pixels). */
  function drawn(scale, [dx, dy]) {
    chalk.setTransform(1, 0, 0, 1, 0, 0);
    chalk.clearRect(0, 0, board.width, board.height);
    chalk.setTransform(FINE, 0, 0, FINE, 0, 0);
    chalk.lineWidth = INK;
    chalk.lineCap = chalk.lineJoin = "round";
    for (const points of strokes) {
      chalk.beginPath();
      points.forEach(([x, y], k) => chalk[k ? "lineTo" : "moveTo"](scale * x + dx, scale * y + dy));
      if (points.length === 1) chalk.lineTo(scale * points[0][0] + dx + 0.01, scale * points[0][1] + dy);
      chalk.stroke();
    }
    const { data } = chalk.getImageData(0, 0, board.width, board.height);
    const image = new Float32Array(SIDE * SIDE);
    for (let row = 0, at = 3; row < board.height; row++)
      for (let column = 0; column < board.width; column++, at += 4)
        image[Math.floor(row / FINE) * SIDE + Math.floor(column / FINE)] += data[at] / 255 / FINE ** 2;
    return image;
  }

  /** The strokes as MNIST's images were made: scaled into a square of 20 pixels, centre of mass in the middle. */
  function centred() {
    const all = strokes.flat();
    const [low, high] = [Math.min, Math.max].map((end) => [0, 1].map((k) => end(...all.map((p) => p[k]))));
    const scale = (FILLED - INK) / Math.max(high[0] - low[0], high[1] - low[1], LEAST);
    const shift = [0, 1].map((k) => SIDE / 2 - (scale * (low[k] + high[k])) / 2);
    const image = drawn(scale, shift);
    const mass = [0, 0, 0];
    image.forEach((ink, p) => [p % SIDE, Math.floor(p / SIDE), 1].forEach((x, k) => (mass[k] += ink * (k < 2 ? x + 0.5 : 1))));
    return drawn(scale, shift.map((x, k) => x + SIDE / 2 - mass[k] / mass[2]));
  }

  // ---------------------------------------------------------------- what the networks see
  let observe = null;
  let coming = null;
  /** Fetch the networks, once: some megabytes, which come when the reader does. */
  function wake() {
    return (coming ||= (async () => {
      box.setAttribute("aria-busy", "true");
      try {
        await Promise.all(methods.flatMap((method) => [`${dataset}-${method}`, `${dataset}-${method}-encoder`]).map(explorer.fetch));
        observe = explorer.observer(methods.map((method) => `${dataset}-${method}`), answer);
        state.ready = true;
      } catch (error) {
        coming = null;
        say(`${error.message}; the figure stays still.`);
      } finally {
        box.removeAttribute("aria-busy");
      }
    })());
  }

  async function ask(asked) {
    state.asked = asked;
    await wake();
    if (observe && state.asked === asked) observe(asked);
  }

  function answer(asked, seen) {
    if (asked !== state.asked && state.asked?.shown !== asked.shown) return; // cleared meanwhile, or another kind of thing
    Object.assign(state, { seen, image: asked.image ?? null, code: asked.code ?? null, answered: state.answered + 1 });
    parts.forEach((part, k) => {
      const { code, picture } = seen[k];
      const model = explorer.models[`${dataset}-${part.method}`];
      explorer.paint(part.canvas, picture);
      part.keep();
      const [x, y] = model.planes[0].basis.map((direction) => clamp(dot(direction, code) / extent, -1, 1));
      part.here.setAttribute("transform", `translate(${(((1 + x) * size) / 2).toFixed(1)} ${(((1 - y) * size) / 2).toFixed(1)})`);
      const near = model.classes[model.labels[explorer.nearest(model, code)[0]]];
      const told = asked.image
        ? `squared error <b>${number(asked.image.reduce((sum, v, p) => sum + (v - picture[p]) ** 2, 0), 1)}</b>`
        : `|<i>z</i>| = <b>${number(Math.hypot(...code), 2)}</b>`;
      part.reading.innerHTML = `nearest code: <b>${near}</b><br>${told}`;
      const what = asked.image ? "What you drew" : "A draw from the prior";
      part.canvas.setAttribute("aria-label", `${what}, as the decoder of the ${part.title} draws it; the nearest code of a test image shows ${near}`);
    });
    announce();
  }

  let pending = null;
  const say = (words) => (find("[role='status']").textContent = words);
  function announce() {
    clearTimeout(pending); // screen readers hear where a movement ended, not every step of it
    pending = setTimeout(() => say(parts.map(({ title, reading }) => `${title}: ${reading.innerText.replace("\n", ", ")}`).join(". ")), 400);
  }

  // ---------------------------------------------------------------- drawing
  let due = false;
  function soon() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  }

  function draw() {
    const start = performance.now();
    if (!strokes.length) return;
    explorer.paint(paper, drawn(SIDE, [0, 0]));
    still.hidden = true;
    const image = centred();
    paintSeen(image, "as the encoders see it");
    ask({ shown: "drawing", image });
    state.shown = "drawing";
    state.cost = Math.max(state.cost, performance.now() - start); // milliseconds: the longest that a step of a stroke took
  }

  const thumb = find(".ex-seen canvas") ?? find(".ex-seen").insertAdjacentElement("afterbegin", Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE }));
  thumb.setAttribute("aria-hidden", "true");
  function paintSeen(image, words) {
    if (image) explorer.paint(thumb, image);
    find(".ex-seen").classList.toggle("ex-none", !image);
    find(".ex-seen span").textContent = words;
  }

  function clear() {
    strokes.length = 0;
    still.hidden = true;
    state.asked = null;
    state.shown = "nothing";
    explorer.paint(paper, new Float32Array(SIDE * SIDE));
    paintSeen(null, "draw here");
  }

  const at = (event) => {
    const { left, top, width, height } = paper.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height].map((x) => clamp(x, 0, 1));
  };
  paper.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (state.shown !== "drawing") clear();
    strokes.push([at(event)]);
    paper.setPointerCapture(event.pointerId);
    const points = strokes.at(-1);
    const move = (e) => {
      for (const one of e.getCoalescedEvents?.() ?? [e]) points.push(at(one));
      soon();
    };
    paper.addEventListener("pointermove", move);
    paper.addEventListener("lostpointercapture", () => paper.removeEventListener("pointermove", move), { once: true });
    soon();
  });
  paper.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });

  // By keyboard: a pen that moves by pixels, up or down.
  let [place, down] = [[0.5, 0.3], false];
  function showPen() {
    pen.style.left = `${100 * place[0]}%`;
    pen.style.top = `${100 * place[1]}%`;
    pen.classList.toggle("ex-down", down);
  }
  paper.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      place = place.map((x, k) => clamp(x + ((event.shiftKey ? 3 : 1) / SIDE) * way[k], 0.04, 0.96));
      if (down) strokes.at(-1).push(place);
    } else if (event.key === " ") {
      down = !down;
      if (down && state.shown !== "drawing") clear();
      if (down) strokes.push([place]);
      say(down ? "Pen down" : "Pen up");
    } else if (event.key === "Delete" || event.key === "Backspace") {
      down = false;
      clear();
    } else return;
    event.preventDefault();
    showPen();
    soon();
  });
  paper.addEventListener("blur", () => {
    down = false;
    showPen();
  });
  showPen();

  /** A number from N(0, 1), by Box and Muller's transform. */
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  let tried = 0;
  const actions = {
    clear,
    async new() {
      clear();
      paintSeen(null, "nothing drawn: decoded from one draw of the prior");
      await wake();
      const { latent } = explorer.models[`${dataset}-${methods[0]}`] ?? {};
      if (!latent) return;
      state.shown = "new";
      ask({ shown: "new", code: Array.from({ length: latent }, normal) });
    },
    async test() {
      await wake();
      const { examples } = explorer.models[`${dataset}-${methods[0]}`] ?? {};
      if (!examples) return;
      clear();
      const pixels = Uint8Array.from(atob(examples[(tried += 1) % examples.length]), (c) => c.charCodeAt(0));
      const image = Float32Array.from(pixels, (v) => v / 255);
      explorer.paint(paper, image);
      paintSeen(image, "a test image, never trained on");
      state.shown = "test";
      ask({ shown: "test", image });
    },
  };
  box.addEventListener("click", (event) => actions[event.target.dataset?.action]?.());
  for (const kind of ["pointerenter", "pointerdown", "focusin"]) box.addEventListener(kind, wake, { once: true, capture: kind === "pointerdown" });
})();
