// Two Gaussians in the plane, by hand: squared Wasserstein-2 distance, optimal map, geodesic.
// No dependency. The page holds a still figure and the first state (data-state); this file brings it to life.
// It begins at the example that the address asks for (explorers.html?gaussian=turned), or the script's data-preset.
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});

  // ---------------------------------------------------------------- mathematics
  // A symmetric matrix [[a, b], [b, c]] is the list [a, b, c]; a Gaussian is {mean: [x, y], cov: [a, b, c]}.

  /** Principal square root (S + d I) / t, where d = sqrt(det S) and t = sqrt(tr S + 2 d), by Cayley-Hamilton. */
  function root([a, b, c]) {
    const d = Math.sqrt(Math.max(a * c - b * b, 0));
    const t = Math.sqrt(a + c + 2 * d);
    return t > 0 ? [(a + d) / t, b / t, (c + d) / t] : [0, 0, 0];
  }

  function inverse([a, b, c]) {
    const d = a * c - b * b;
    return [c / d, -b / d, a / d];
  }

  /** P S P for symmetric P and S. */
  function sandwich([p, q, r], [a, b, c]) {
    const [k, l, m, n] = [p * a + q * b, p * b + q * c, q * a + r * b, q * b + r * c]; // P S, row by row
    return [k * p + l * q, (k * q + l * r + m * p + n * q) / 2, m * q + n * r];
  }

  /** |m1 - m2|^2, the squared Bures distance, and their sum, the squared W2 distance.
   *
   * Bures as min |R1 - U R2|^2 over rotations U (R the square roots): a sum of squares, so never negative. The best
   * rotation is the polar factor of R1 R2, which in the plane has cosine : sine = (M11 + M22) : (M21 - M12). */
  function w2Squared(first, second) {
    const mean = (first.mean[0] - second.mean[0]) ** 2 + (first.mean[1] - second.mean[1]) ** 2;
    const [a, b, c] = root(first.cov);
    const [p, q, r] = root(second.cov);
    const cosine = a * p + 2 * b * q + c * r;
    const sine = b * p + c * q - a * q - b * r;
    const length = Math.hypot(cosine, sine);
    const [u, v] = length > 0 ? [cosine / length, sine / length] : [1, 0];
    const bures =
      (a - u * p + v * q) ** 2 + (b - u * q + v * r) ** 2 + (b - v * p - u * q) ** 2 + (c - v * q - u * r) ** 2;
    return { mean, bures, total: mean + bures };
  }

  /** Matrix A of the optimal map T(x) = m2 + A (x - m1); the first covariance must be invertible. */
  function mapMatrix(first, second) {
    const half = root(first.cov);
    return sandwich(inverse(half), root(sandwich(half, second.cov)));
  }

  /** T(x), given A. */
  function transport(first, second, [a, b, c], [x, y]) {
    const [dx, dy] = [x - first.mean[0], y - first.mean[1]];
    return [second.mean[0] + a * dx + b * dy, second.mean[1] + b * dx + c * dy];
  }

  /** McCann's geodesic at t: the law of (1 - t) x + t T(x) for x from the first Gaussian. */
  function between(first, second, t) {
    const [a, b, c] = mapMatrix(first, second);
    return {
      mean: first.mean.map((m, i) => (1 - t) * m + t * second.mean[i]),
      cov: sandwich([1 - t + t * a, t * b, 1 - t + t * c], first.cov),
    };
  }

  /** R diag(s1^2, s2^2) R^T from standard deviations along the axes and the first axis' angle. */
  function covariance(angle, [s1, s2]) {
    const [u, v] = [Math.cos(angle), Math.sin(angle)];
    const [p, q] = [s1 * s1, s2 * s2];
    return [p * u * u + q * v * v, (p - q) * u * v, p * v * v + q * u * u];
  }

  /** The inverse of covariance(). */
  function axes([a, b, c]) {
    const middle = (a + c) / 2;
    const half = Math.hypot((a - c) / 2, b);
    return { angle: Math.atan2(2 * b, a - c) / 2, axes: [middle + half, middle - half].map((x) => Math.sqrt(Math.max(x, 0))) };
  }

  explorer.gaussian = { root, w2Squared, mapMatrix, transport, between, covariance, axes };

  // ---------------------------------------------------------------- the page
  const RADIUS = 2; // ellipses are drawn, and their axes held, two standard deviations from the mean
  const SHORTEST = 0.15;
  const LONGEST = 1.3;
  const GRID = 0.5; // distance, in standard deviations, of the points whose transport is drawn
  const TURN = Math.PI / 36; // 5 degrees a key
  const NAMES = ["first", "second"];
  const SUBSCRIPT = ["₁", "₂"];

  const PRESETS = [
    ["Start", "start", null],
    ["Shifted only", "shifted", [{ mean: [-1.5, -0.4], angle: 0.5, axes: [0.8, 0.4] }, { mean: [1.4, 0.6], angle: 0.5, axes: [0.8, 0.4] }]],
    ["Same mean, turned", "turned", [{ mean: [0, 0], angle: 0.35, axes: [1.1, 0.3] }, { mean: [0, 0], angle: 0.35 + Math.PI / 2, axes: [1.1, 0.3] }]],
    ["To N(0, I)", "prior", [{ mean: [-1.2, 0.7], angle: -0.5, axes: [0.6, 0.2] }, { mean: [0, 0], angle: 0, axes: [1, 1] }]],
  ];

  const box = document.getElementById("gaussian-explorer");
  if (!box) return;

  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const number = (x, digits = 2) => (Math.abs(x) < 0.5 * 10 ** -digits ? 0 : x).toFixed(digits).replace("-", "−");
  const matrix = ([a, b, c]) => `[${number(a)}, ${number(b)}; ${number(b)}, ${number(c)}]`;

  function svg(tag, attributes = {}, parent = null) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (parent) parent.append(element);
    return element;
  }

  const start = JSON.parse(box.dataset.state);
  const asked = new URLSearchParams(location.search).get("gaussian") ?? document.currentScript?.dataset.preset;
  const state = { shapes: structuredClone(start.shapes), t: start.t };
  const view = { width: 0, height: 0, scale: 1 };
  explorer.gaussian.state = state;
  explorer.gaussian.gaussians = () => state.shapes.map((s) => ({ mean: s.mean, cov: covariance(s.angle, s.axes) }));

  box.innerHTML = `
    <svg class="ex-plane" role="group" aria-label="Two Gaussians in the plane, each with three handles: its mean and the ends of its two axes"></svg>
    <p class="ex-equation">
      <span class="ex-term"><b data-value="total"></b><small><i>W</i>₂², squared distance</small></span>
      <span aria-hidden="true">=</span>
      <span class="ex-term ex-mean"><b data-value="mean"></b><small>|<i>m</i>₁ − <i>m</i>₂|², mean part</small></span>
      <span aria-hidden="true">+</span>
      <span class="ex-term ex-bures"><b data-value="bures"></b><small>Bures part</small></span>
    </p>
    <div class="ex-bar" aria-hidden="true"><i class="ex-mean"></i><i class="ex-bures"></i></div>
    <div class="ex-row">
      <label for="ex-geodesic">Geodesic, <i>t</i> = <output data-value="t" for="ex-geodesic"></output></label>
      <input id="ex-geodesic" type="range" min="0" max="1" step="0.01">
      <button type="button" data-action="play">Play</button>
    </div>
    <div class="ex-row ex-presets" role="group" aria-label="Examples"></div>
    <details><summary>Moments and map</summary><dl class="ex-moments"></dl></details>
    <p class="ex-help">Drag the handles. By keyboard: Tab to a handle; arrow keys move a mean (with Shift: five times as far);
      on an axis, up and down stretch, left and right turn.</p>
    <div class="ex-hidden" role="status"></div>`;

  const find = (selector) => box.querySelector(selector);
  const value = (name) => find(`[data-value="${name}"]`);
  const plane = find(".ex-plane");
  const slider = find("#ex-geodesic");
  const play = find('[data-action="play"]');

  const layer = (name) => svg("g", { class: name, "aria-hidden": "true" }, plane);
  const grid = svg("path", { class: "ex-grid" }, layer("ex-back"));
  const bodies = layer("ex-bodies");
  const outlines = NAMES.map((name) => [1, 2].map((r) => svg("ellipse", { class: `ex-${name} ex-sigma${r}` }, bodies)));
  const arrows = svg("path", { class: "ex-arrows" }, layer("ex-map"));
  const middle = layer("ex-between");
  const intermediate = [1, 2].map((r) => svg("ellipse", { class: `ex-middle ex-sigma${r}` }, middle));
  const particles = svg("path", { class: "ex-particles" }, middle);
  const labels = NAMES.map((name, i) => {
    const text = svg("text", { class: `ex-label ex-${name}` }, bodies);
    text.textContent = `N(m${SUBSCRIPT[i]}, S${SUBSCRIPT[i]})`;
    return text;
  });

  const handles = [];
  for (const part of ["mean", "axis0", "axis1"]) {
    NAMES.forEach((name, i) => {
      const node = svg("g", { class: `ex-handle ex-${name}`, tabindex: 0, role: "slider", "data-handle": `${name}-${part}` });
      if (part === "mean") node.setAttribute("aria-roledescription", "point in the plane");
      svg("circle", { class: "ex-hit", r: 22 }, node);
      svg("circle", { class: "ex-ring", r: 14 }, node);
      if (part === "mean") svg("circle", { class: "ex-knob", r: 8 }, node);
      else svg("rect", { class: "ex-knob", x: -6, y: -6, width: 12, height: 12, rx: 2 }, node);
      handles.push({ node, shape: i, part, axis: part === "mean" ? null : Number(part[4]) });
    });
  }
  // Keyboards walk from Gaussian to Gaussian.
  handles.sort((a, b) => a.shape - b.shape);
  handles.forEach((handle) => plane.append(handle.node));

  // ---------------------------------------------------------------- from the plane to the screen
  const toScreen = ([x, y]) => [view.width / 2 + view.scale * x, view.height / 2 - view.scale * y];
  const toPlane = ([x, y]) => [(x - view.width / 2) / view.scale, (view.height / 2 - y) / view.scale];
  const join = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;

  function fit() {
    const width = plane.clientWidth || box.clientWidth;
    if (!width || width === view.width) return;
    view.width = width;
    view.scale = width < 560 ? width / 6.2 : width / 8;
    view.height = Math.round(view.scale * (width < 560 ? 6 : 5.2));
    plane.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    plane.style.height = `${view.height}px`;
    state.shapes.forEach((shape) => place(shape, shape.mean)); // a narrower view holds less of the plane
    let lines = "";
    for (let k = -8; k <= 8; k++) {
      const [x, y] = toScreen([k, k]);
      lines += `M${x.toFixed(1)} 0V${view.height}M0 ${y.toFixed(1)}H${view.width}`;
    }
    grid.setAttribute("d", lines);
    draw();
  }

  function setEllipse(element, gaussian, radius) {
    const { angle, axes: [s1, s2] } = axes(gaussian.cov);
    const [x, y] = toScreen(gaussian.mean);
    element.setAttribute("rx", (radius * s1 * view.scale).toFixed(2));
    element.setAttribute("ry", (radius * s2 * view.scale).toFixed(2));
    element.setAttribute("transform", `translate(${join([x, y])}) rotate(${((-angle * 180) / Math.PI).toFixed(2)})`);
  }

  /** Points of a lattice inside the ellipse: a square one in a disc, stretched, so that every Gaussian has as many. */
  function lattice(gaussian) {
    const { angle, axes: [s1, s2] } = axes(gaussian.cov);
    const [u, v] = [Math.cos(angle), Math.sin(angle)];
    const n = Math.floor(RADIUS / GRID);
    const points = [];
    for (let i = -n; i <= n; i++)
      for (let j = -n; j <= n; j++) {
        const [x, y] = [i * GRID * s1, j * GRID * s2];
        if ((i * i + j * j) * GRID * GRID <= RADIUS * RADIUS) points.push([gaussian.mean[0] + u * x - v * y, gaussian.mean[1] + v * x + u * y]);
      }
    return points;
  }

  function arrow(from, to) {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const length = Math.hypot(dx, dy);
    if (length < 3) return "";
    const head = Math.min(7, length / 2);
    const [ux, uy] = [(dx / length) * head, (dy / length) * head];
    const [left, right] = [
      [to[0] - ux - uy / 2, to[1] - uy + ux / 2],
      [to[0] - ux + uy / 2, to[1] - uy - ux / 2],
    ];
    return `M${join(from)}L${join(to)}M${join(left)}L${join(to)}L${join(right)}`;
  }

  function handlePosition({ shape, axis }) {
    const { mean, angle, axes: lengths } = state.shapes[shape];
    if (axis === null) return mean;
    const direction = angle + (axis * Math.PI) / 2;
    const reach = RADIUS * lengths[axis];
    return [mean[0] + reach * Math.cos(direction), mean[1] + reach * Math.sin(direction)];
  }

  // ---------------------------------------------------------------- drawing
  function draw() {
    const [first, second] = explorer.gaussian.gaussians();
    const distance = w2Squared(first, second);
    const now = between(first, second, state.t);
    const matrixA = mapMatrix(first, second);

    [first, second].forEach((gaussian, i) => {
      outlines[i].forEach((element, k) => setEllipse(element, gaussian, k + 1));
      const up = i === 1; // one label above, one below: they seldom meet
      const reach = RADIUS * Math.sqrt(gaussian.cov[2]) * view.scale + 12;
      const [x, y] = toScreen(gaussian.mean);
      labels[i].setAttribute("x", clamp(x, 45, view.width - 45).toFixed(1));
      labels[i].setAttribute("y", clamp(up ? y - reach : y + reach + 10, 18, view.height - 8).toFixed(1));
    });
    intermediate.forEach((element, k) => setEllipse(element, now, k + 1));

    let shafts = "";
    let dots = "";
    for (const point of lattice(first)) {
      const target = transport(first, second, matrixA, point);
      shafts += arrow(toScreen(point), toScreen(target));
      dots += `M${join(toScreen(point.map((p, i) => (1 - state.t) * p + state.t * target[i])))}h0`;
    }
    arrows.setAttribute("d", shafts);
    particles.setAttribute("d", dots);

    handles.forEach(drawHandle);
    for (const part of ["total", "mean", "bures"]) value(part).textContent = number(distance[part]);
    find(".ex-bar .ex-mean").style.flexGrow = distance.mean;
    find(".ex-bar .ex-bures").style.flexGrow = distance.bures;
    value("t").textContent = number(state.t);
    if (document.activeElement !== slider || Number(slider.value) !== state.t) slider.value = state.t;
    slider.setAttribute("aria-valuetext", `t = ${number(state.t)}`);
    drawMoments(first, second, matrixA, now);
    announce(
      `Squared W2 distance ${number(distance.total)}: mean part ${number(distance.mean)}, Bures part ${number(distance.bures)}.`
    );
  }

  function drawHandle(handle) {
    const { node, shape, axis } = handle;
    const position = handlePosition(handle);
    const { angle, axes: lengths } = state.shapes[shape];
    const which = `${NAMES[shape]} Gaussian`;
    const degrees = axis === null ? 0 : ((angle + (axis * Math.PI) / 2) * 180) / Math.PI;
    node.setAttribute("transform", `translate(${join(toScreen(position))})` + (axis === null ? "" : ` rotate(${(-degrees).toFixed(1)})`));
    const set = (name, content) => node.setAttribute(`aria-${name}`, content);
    if (axis === null) {
      set("label", `Mean of the ${which}`);
      set("valuemin", -4);
      set("valuemax", 4);
      set("valuenow", position[0].toFixed(2));
      set("valuetext", `x ${number(position[0])}, y ${number(position[1])}`);
    } else {
      set("label", `${axis === 0 ? "First" : "Second"} axis of the ${which}`);
      set("valuemin", SHORTEST);
      set("valuemax", LONGEST);
      set("valuenow", lengths[axis].toFixed(2));
      const turned = ((Math.round(degrees) % 180) + 180) % 180;
      set("valuetext", `standard deviation ${number(lengths[axis])}, turned by ${turned} degrees`);
    }
  }

  function drawMoments(first, second, matrixA, now) {
    const rows = [
      ["m₁", `(${first.mean.map((x) => number(x)).join(", ")})`],
      ["S₁", matrix(first.cov)],
      ["m₂", `(${second.mean.map((x) => number(x)).join(", ")})`],
      ["S₂", matrix(second.cov)],
      ["A, in T(x) = m₂ + A(x − m₁)", matrix(matrixA)],
      [`S at t = ${number(state.t)}`, matrix(now.cov)],
    ];
    find(".ex-moments").innerHTML = rows.map(([name, content]) => `<div><dt>${name}</dt><dd>${content}</dd></div>`).join("");
  }

  let pending = null;
  function announce(text) {
    clearTimeout(pending); // screen readers hear where a movement ended, not every step of it
    pending = setTimeout(() => (find('[role="status"]').textContent = text), 400);
  }

  // ---------------------------------------------------------------- moving
  function place(shape, [x, y]) {
    const [right, top] = [view.width / 2 / view.scale - 0.3, view.height / 2 / view.scale - 0.3];
    shape.mean = [clamp(x, -right, right), clamp(y, -top, top)];
  }

  function moveHandle({ shape: index, axis }, point) {
    const shape = state.shapes[index];
    if (axis === null) return place(shape, point);
    const [dx, dy] = [point[0] - shape.mean[0], point[1] - shape.mean[1]];
    shape.axes[axis] = clamp(Math.hypot(dx, dy) / RADIUS, SHORTEST, LONGEST);
    if (Math.hypot(dx, dy) > 0.05) shape.angle = Math.atan2(dy, dx) - (axis * Math.PI) / 2;
  }

  const fromEvent = (event) => {
    const frame = plane.getBoundingClientRect();
    return toPlane([event.clientX - frame.left, event.clientY - frame.top]);
  };

  function nearestHandle(point) {
    const distance = (handle) => {
      const [x, y] = handlePosition(handle);
      return Math.hypot(x - point[0], y - point[1]);
    };
    return handles.reduce((best, handle) => (distance(handle) < distance(best) ? handle : best));
  }

  handles.forEach((own) => {
    own.node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      const handle = nearestHandle(fromEvent(event)); // where the areas of two handles overlap
      const at = handlePosition(handle);
      const grip = fromEvent(event).map((x, i) => at[i] - x); // the handle keeps its place under the finger
      const move = (e) => {
        moveHandle(handle, fromEvent(e).map((x, i) => x + grip[i]));
        draw();
      };
      const stop = () => {
        own.node.removeEventListener("pointermove", move);
        handle.node.classList.remove("ex-held");
      };
      own.node.setPointerCapture(event.pointerId);
      handle.node.focus({ preventScroll: true });
      handle.node.classList.add("ex-held");
      own.node.addEventListener("pointermove", move);
      own.node.addEventListener("lostpointercapture", stop, { once: true });
    });
    // touch-action says the same, but not every browser heeds it inside a drawing.
    own.node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    own.node.addEventListener("keydown", (event) => {
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] || [0, 0];
      if ((!x && !y) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const shape = state.shapes[own.shape];
      const step = event.shiftKey ? 5 : 1;
      if (own.axis === null) place(shape, [shape.mean[0] + 0.1 * step * x, shape.mean[1] + 0.1 * step * y]);
      else {
        shape.axes[own.axis] = clamp(shape.axes[own.axis] + 0.05 * step * y, SHORTEST, LONGEST);
        shape.angle -= TURN * step * x;
      }
      draw();
    });
  });

  slider.addEventListener("input", () => {
    stopPlaying();
    paused = true; // Play goes on from where the reader put it
    state.t = Number(slider.value);
    draw();
  });

  let frame = null;
  let paused = false; // by Play itself: only then does it go on from where it is
  function stopPlaying() {
    cancelAnimationFrame(frame);
    frame = null;
    play.textContent = "Play";
  }
  play.addEventListener("click", () => {
    if (frame !== null) {
      paused = true;
      return stopPlaying();
    }
    play.textContent = "Pause";
    if (!paused || state.t >= 1) state.t = 0;
    paused = false;
    let last = null;
    const step = (time) => {
      state.t = Math.min(1, state.t + (last === null ? 0 : (time - last) / 2500));
      last = time;
      draw();
      if (state.t < 1) frame = requestAnimationFrame(step);
      else stopPlaying();
    };
    frame = requestAnimationFrame(step);
  });

  for (const [name, key, shapes] of PRESETS) {
    const show = () => {
      state.shapes.splice(0, 2, ...structuredClone(shapes || start.shapes));
      state.shapes.forEach((shape) => place(shape, shape.mean));
      draw();
    };
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", show);
    find(".ex-presets").append(button);
    if (key === asked && shapes) state.shapes = structuredClone(shapes); // what fit() draws
  }

  new ResizeObserver(fit).observe(box);
  fit();
})();
