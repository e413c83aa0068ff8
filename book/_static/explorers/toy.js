// A WWAE that trains while the reader looks: points of a curve in the plane, codes of two dimensions, a choice of loss,
// batch and noise. Everything is computed here, from the seed that the page shows. The page holds a still figure.
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});
  const toy = (explorer.toy = {});

  // ---------------------------------------------------------------- random numbers
  /** Uniform numbers in [0, 1) from a whole number: the generator mulberry32. */
  function uniforms(seed) {
    let a = seed >>> 0;
    return () => {
      a = (a + 0x6d2b79f5) >>> 0;
      let t = Math.imul(a ^ (a >>> 15), a | 1);
      t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }
  /** Numbers of N(0, 1), by Box and Muller's transform. */
  const normals = (draw) => () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());

  // ---------------------------------------------------------------- mathematics
  const LATENT = 2;
  const HIDDEN = 32;

  /** Points of the S, two halves of unit circles, for places t in [0, 1] along it (wwae_lib/book/toy.py, curve). */
  function curve(t) {
    const points = new Float64Array(2 * t.length);
    t.forEach((place, i) => {
      const angle = 2 * Math.PI * (place - 0.5);
      points[2 * i] = Math.sin(angle);
      points[2 * i + 1] = Math.sign(angle) * (Math.cos(angle) - 1);
    });
    return points;
  }

  /** A perceptron with two hidden layers: weights (outputs x inputs) and biases between +-1 / sqrt(inputs). */
  function perceptron(inputs, outputs, draw) {
    return [[inputs, HIDDEN], [HIDDEN, HIDDEN], [HIDDEN, outputs]].map(([n, m]) => {
      const some = (count) => Float64Array.from({ length: count }, () => (2 * draw() - 1) / Math.sqrt(n));
      return { inputs: n, outputs: m, weight: some(n * m), bias: some(m) };
    });
  }

  /** The layers' inputs and, last, the output; between the layers x / (1 + exp(-x)). */
  function forward(layers, points) {
    const seen = [points];
    const slopes = [];
    layers.forEach(({ inputs, outputs, weight, bias }, k) => {
      const x = seen[k];
      const n = x.length / inputs;
      const y = new Float64Array(n * outputs);
      for (let i = 0, to = 0; i < n; i++)
        for (let j = 0, w = 0; j < outputs; j++, to++) {
          let sum = bias[j];
          for (let l = 0, at = i * inputs; l < inputs; l++, w++, at++) sum += weight[w] * x[at];
          y[to] = sum;
        }
      if (k < layers.length - 1) {
        const slope = new Float64Array(y.length);
        for (let i = 0; i < y.length; i++) {
          const s = 1 / (1 + Math.exp(-y[i]));
          slope[i] = s * (1 + y[i] * (1 - s));
          y[i] *= s;
        }
        slopes.push(slope);
      }
      seen.push(y);
    });
    return { seen, slopes, output: seen.at(-1) };
  }

  /** Gradients of all weights and biases, and of the input, from that of the output. */
  function backward(layers, { seen, slopes }, pull) {
    const found = new Array(layers.length);
    for (let k = layers.length - 1; k >= 0; k--) {
      const { inputs, outputs, weight } = layers[k];
      const x = seen[k];
      const [byWeight, byBias] = [new Float64Array(weight.length), new Float64Array(outputs)];
      const before = new Float64Array(x.length);
      const after = pull;
      for (let i = 0, from = 0; from < after.length; i++)
        for (let j = 0, w = 0; j < outputs; j++, from++) {
          const g = after[from];
          byBias[j] += g;
          for (let l = 0, at = i * inputs; l < inputs; l++, w++, at++) {
            byWeight[w] += g * x[at];
            before[at] += g * weight[w];
          }
        }
      const slope = slopes[k - 1];
      if (slope) for (let i = 0; i < before.length; i++) before[i] *= slope[i];
      found[k] = { weight: byWeight, bias: byBias };
      pull = before;
    }
    return { layers: found, input: pull };
  }

  /** Mean [x, y] and covariance [a, b, c] of codes: that of the means, and the mean variance of the noise. */
  function moments(mean, variance, divisor) {
    const n = mean.length / 2;
    const m = [0, 0];
    for (let i = 0; i < mean.length; i++) m[i % 2] += mean[i] / n;
    const cov = [0, 0, 0];
    for (let i = 0; i < n; i++) {
      const [x, y] = [mean[2 * i] - m[0], mean[2 * i + 1] - m[1]];
      cov[0] += (x * x) / divisor;
      cov[1] += (x * y) / divisor;
      cov[2] += (y * y) / divisor;
      cov[0] += variance[2 * i] / n;
      cov[2] += variance[2 * i + 1] / n;
    }
    return { mean: m, cov };
  }

  /** |m|^2, the squared Bures distance of S and I, their sum, and the sum's slope in S, which is I - S^(-1/2). */
  function penalty({ mean, cov: [a, b, c] }) {
    const d = Math.sqrt(Math.max(a * c - b * b, 1e-12)); // flat codes keep a finite slope
    const t = Math.sqrt(a + c + 2 * d); // the trace of the root of S
    const mean2 = mean[0] ** 2 + mean[1] ** 2;
    const bures = Math.max(a + c + 2 - 2 * t, 0);
    const slope = [1 - (c + d) / (t * d), b / (t * d), 1 - (a + d) / (t * d)];
    return { mean: mean2, bures, total: mean2 + bures, slope };
  }

  /** The loss on a batch, and its gradient in all weights.
   *
   * The error per point is |x - G(mean + std noise)|^2, the penalty that of total mean and covariance; `rebuild` says
   * whether the error is in the loss, `spread` whether the encoder has noise and `weight` is lambda.
   */
  function lossOf(model, points, noise, { rebuild, spread, weight }) {
    const n = points.length / 2;
    const encoded = forward(model.encoder, points);
    const mean = new Float64Array(2 * n);
    const variance = new Float64Array(2 * n);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < 2; k++) {
        mean[2 * i + k] = encoded.output[4 * i + k];
        variance[2 * i + k] = spread ? Math.exp(encoded.output[4 * i + 2 + k]) : 0;
      }
    const own = moments(mean, variance, n - 1);
    const said = penalty(own);
    const [p, q, r] = said.slope.map((x) => weight * x);
    const pull = new Float64Array(4 * n);
    for (let i = 0; i < n; i++) {
      const [x, y] = [mean[2 * i] - own.mean[0], mean[2 * i + 1] - own.mean[1]];
      pull[4 * i] = (2 * weight * own.mean[0]) / n + (2 * (p * x + q * y)) / (n - 1);
      pull[4 * i + 1] = (2 * weight * own.mean[1]) / n + (2 * (q * x + r * y)) / (n - 1);
      pull[4 * i + 2] = (variance[2 * i] * p) / n;
      pull[4 * i + 3] = (variance[2 * i + 1] * r) / n;
    }
    let error = 0;
    let decoder = null;
    if (rebuild) {
      const codes = mean.map((m, i) => m + Math.sqrt(variance[i]) * noise[i]);
      const decoded = forward(model.decoder, codes);
      const off = decoded.output.map((x, i) => x - points[i]);
      error = off.reduce((sum, x) => sum + x * x, 0) / n;
      const back = backward(model.decoder, decoded, off.map((x) => (2 * x) / n));
      decoder = back.layers;
      for (let i = 0; i < n; i++)
        for (let k = 0; k < 2; k++) {
          pull[4 * i + k] += back.input[2 * i + k];
          pull[4 * i + 2 + k] += (back.input[2 * i + k] * noise[2 * i + k] * Math.sqrt(variance[2 * i + k])) / 2;
        }
    }
    return { error, penalty: said.total, encoder: backward(model.encoder, encoded, pull).layers, decoder };
  }

  // ---------------------------------------------------------------- training
  const STEPS = 800;
  const RATE = 5e-3; // Adam's at the start; it falls to 0 along a half cosine
  const SHOWN = 240; // points of the curve that are looked at, evenly along it

  /** A training: step() takes one, look() says what has become of the shown points. */
  function training({ rebuild, batch, noise, seed, weight = 1 }) {
    const draw = uniforms(seed);
    const normal = normals(draw);
    const model = { encoder: perceptron(2, 2 * LATENT, draw), decoder: perceptron(LATENT, 2, draw) };
    if (noise > 0) model.encoder.at(-1).bias.fill(2 * Math.log(noise), LATENT); // about the noise's start
    const layers = [...model.encoder, ...model.decoder];
    const settings = { rebuild, spread: noise > 0, weight };
    const memory = layers.flatMap(({ weight, bias }) => [weight, bias]).map((values) => ({ values, first: new Float64Array(values.length), second: new Float64Array(values.length) }));
    const places = Float64Array.from({ length: SHOWN }, (_, i) => (i + 0.5) / SHOWN);
    const shown = curve(places);
    const own = { model, steps: 0, batches: [] };

    own.step = () => {
      const points = curve(Float64Array.from({ length: batch }, draw));
      const found = lossOf(model, points, Float64Array.from({ length: 2 * batch }, normal), settings);
      own.batches.push(found.penalty);
      const slopes = [...found.encoder, ...(found.decoder ?? model.decoder.map(() => null))].flatMap((one) => [one?.weight, one?.bias]);
      const rate = (RATE * (1 + Math.cos((Math.PI * own.steps) / STEPS))) / 2;
      own.steps += 1;
      const [keep1, keep2] = [1 - 0.9 ** own.steps, 1 - 0.999 ** own.steps];
      memory.forEach(({ values, first, second }, k) => {
        if (!slopes[k]) return;
        for (let i = 0; i < values.length; i++) {
          const g = slopes[k][i];
          first[i] += 0.1 * (g - first[i]);
          second[i] += 0.001 * (g * g - second[i]);
          values[i] -= (rate * first[i]) / keep1 / (Math.sqrt(second[i] / keep2) + 1e-8);
        }
      });
    };

    const fixed = normals(uniforms(seed + 1)); // the same draws at every look
    const kept = Float64Array.from({ length: 4 * SHOWN }, fixed);
    own.look = () => {
      const output = forward(model.encoder, shown).output;
      const mean = new Float64Array(2 * SHOWN);
      const variance = new Float64Array(2 * SHOWN);
      for (let i = 0; i < 2 * SHOWN; i++) {
        const at = 4 * (i >> 1) + (i & 1);
        mean[i] = output[at];
        variance[i] = settings.spread ? Math.exp(output[at + 2]) : 0;
      }
      const codes = mean.map((m, i) => m + Math.sqrt(variance[i]) * kept[i]);
      const moment = moments(mean, variance, SHOWN);
      const decoded = forward(model.decoder, codes).output;
      const error = decoded.reduce((sum, x, i) => sum + (x - shown[i]) ** 2, 0) / SHOWN;
      const drawn = forward(model.decoder, kept.subarray(2 * SHOWN)).output;
      return { codes, decoded, drawn, error, moment, penalty: penalty(moment), noise: variance.reduce((sum, v) => sum + v, 0) / variance.length };
    };
    return own;
  }

  Object.assign(toy, { perceptron, forward, moments, penalty, lossOf, training, STEPS });

  // ---------------------------------------------------------------- the page
  const box = document.getElementById("toy-explorer");
  if (!box) return;

  const SIZE = 1000; // units of a map's drawing
  const { extent: REACH } = JSON.parse(box.dataset.toy); // each map reaches so far from its middle
  const PATCHES = 8; // colours along the curve
  const PATIENCE = 9; // milliseconds of steps between two drawings
  const MOST = 6; // steps between two drawings: a training can be followed
  const find = (selector) => box.querySelector(selector);
  const number = (x, digits = 3) => (Math.abs(x) < 0.5 * 10 ** -digits ? 0 : x).toFixed(digits).replace("-", "\u2212");

  function svg(tag, attributes = {}, parent = null) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, content] of Object.entries(attributes)) element.setAttribute(name, content);
    parent?.append(element);
    return element;
  }

  find(".ex-toy-controls").innerHTML = `
    <label class="ex-choice"><span>Loss</span><select data-choice="rebuild">
      <option value="1">error + penalty</option><option value="">penalty alone</option></select></label>
    <label class="ex-choice"><span>Points per batch</span><select data-choice="batch">
      ${[4, 8, 32, 128].map((n) => `<option${n === 128 ? " selected" : ""}>${n}</option>`).join("")}</select></label>
    <label class="ex-choice"><span>Encoder's noise</span><select data-choice="noise">
      <option value="0">none</option><option value="0.1">starts at 0.1</option><option value="1">starts at 1</option></select></label>
    <label class="ex-choice"><span>Seed</span><select data-choice="seed">
      ${[1, 2, 3, 4, 5].map((n) => `<option>${n}</option>`).join("")}</select></label>`;
  find(".ex-toy-run").innerHTML = `
    <button type="button" data-action="train">Train</button>
    <button type="button" data-action="step">One step</button>
    <button type="button" data-action="restart">Start again</button>
    <span>After <output></output> of ${STEPS} steps</span>`;
  find(".ex-message").textContent =
    "Every choice starts the training again. The same choices give the same training.";

  const [plane, map] = box.querySelectorAll(".ex-map");
  const layer = (parent, before, attributes) => {
    const path = svg("path", attributes);
    before ? parent.insertBefore(path, before) : parent.append(path);
    return path;
  };
  const patches = (parent) => Array.from({ length: PATCHES }, (_, k) => layer(parent, null, { class: `ex-dots ex-class${k}` }));
  const samples = layer(plane, plane.firstChild, { class: "ex-dots ex-drawn-samples" });
  const rebuilt = patches(plane);
  const codes = patches(map);
  const ellipses = [1, 2].map(() => svg("ellipse", { class: "ex-posterior" }, map));
  const value = (name, x) => (find(`[data-value="${name}"]`).textContent = number(x));
  const place = (x, y) => `M${(((x / REACH + 1) * SIZE) / 2).toFixed(0)} ${(((1 - y / REACH) * SIZE) / 2).toFixed(0)}h0`;
  const dots = (points) => Array.from({ length: points.length / 2 }, (_, i) => place(points[2 * i], points[2 * i + 1]));

  function coloured(paths, points) {
    const each = points.length / 2 / PATCHES;
    const marks = dots(points);
    paths.forEach((path, k) => path.setAttribute("d", marks.slice(k * each, (k + 1) * each).join("")));
  }

  const state = Object.assign(toy, { now: null, seen: null, history: [], running: false });
  const chosen = () => Object.fromEntries([...box.querySelectorAll("[data-choice]")].map((e) => [e.dataset.choice, e.dataset.choice === "rebuild" ? Boolean(e.value) : Number(e.value)]));

  function restart() {
    stop();
    state.settings = chosen();
    state.now = training(state.settings);
    state.history = [];
    show();
  }

  function show() {
    const { rebuild } = state.settings;
    const seen = (state.seen = state.now.look());
    const recent = state.now.batches.slice(-50);
    const read = recent.length ? recent.reduce((sum, x) => sum + x, 0) / recent.length : null;
    state.history.push({ step: state.now.steps, error: seen.error, penalty: seen.penalty.total });
    coloured(codes, seen.codes);
    coloured(rebuilt, rebuild ? seen.decoded : new Float64Array(0));
    samples.setAttribute("d", rebuild ? dots(seen.drawn).join("") : "");
    const { mean, cov: [a, b, c] } = seen.moment;
    const [middle, half] = [(a + c) / 2, Math.hypot((a - c) / 2, b)];
    const unit = SIZE / 2 / REACH;
    ellipses.forEach((ellipse, r) => {
      ellipse.setAttribute("rx", ((r + 1) * Math.sqrt(middle + half) * unit).toFixed(1));
      ellipse.setAttribute("ry", ((r + 1) * Math.sqrt(Math.max(middle - half, 0)) * unit).toFixed(1));
      const turned = (-Math.atan2(2 * b, a - c) * 90) / Math.PI;
      ellipse.setAttribute("transform", `translate(${(SIZE / 2 + unit * mean[0]).toFixed(1)} ${(SIZE / 2 - unit * mean[1]).toFixed(1)}) rotate(${turned.toFixed(1)})`);
    });
    value("total", seen.penalty.total);
    value("mean", seen.penalty.mean);
    value("bures", seen.penalty.bures);
    find(".ex-toy-run output").textContent = state.now.steps;
    const [left, right] = box.querySelectorAll(".ex-reading");
    left.innerHTML = rebuild ? `squared error per point <b>${number(seen.error)}</b>` : "the decoder is not trained";
    right.innerHTML = `penalty of a batch <b>${read === null ? "\u2013" : number(read)}</b>, encoder's noise <b>${number(seen.noise)}</b>`;
    plane.setAttribute("aria-label", `The plane of the data after ${state.now.steps} steps: the curve, ${rebuild ? "its points rebuilt, and draws from the prior, decoded" : "nothing rebuilt"}`);
    map.setAttribute("aria-label", `Codes after ${state.now.steps} steps, their ellipses and the prior's circles: mean ${number(mean[0])} and ${number(mean[1])}, variances ${number(a)} and ${number(c)}, covariance ${number(b)}`);
    const done = state.now.steps >= STEPS;
    for (const action of ["train", "step"]) find(`[data-action=${action}]`).disabled = done;
    drawCurves();
  }

  // Penalty and error of all points against the steps; the curve's name stands above it.
  const curves = [...box.querySelectorAll(".ex-curve")].map((curve) => {
    const [width, height, left, bottom, top] = [340, 150, 34, 22, 24];
    const { key, title } = curve.dataset;
    const high = key === "error" ? 2 : 1;
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, against the steps` });
    const across = (step) => left + ((width - left - 8) * step) / STEPS;
    const down = (x) => top + (height - top - bottom) * (1 - Math.min(x / high, 1));
    const words = (x, y, text, anchor) => (svg("text", { x, y, "text-anchor": anchor, class: "ex-axis" }, drawing).textContent = text);
    words(2, 13, title, "start");
    for (const share of [0, 0.5, 1]) {
      svg("path", { class: "ex-grid", d: `M${left} ${down(high * share)}H${width - 8}` }, drawing);
      words(left - 5, down(high * share) + 4, (high * share).toFixed(1), "end");
    }
    for (const step of [0, STEPS / 2, STEPS]) words(across(step), height - 5, step, step === STEPS ? "end" : "middle");
    const path = svg("path", { class: "ex-line0" }, drawing);
    curve.replaceChildren(drawing);
    return () => {
      const seen = key === "error" && !state.settings.rebuild ? [] : state.history;
      path.setAttribute("d", seen.map((one, i) => `${i ? "L" : "M"}${across(one.step).toFixed(1)} ${down(one[key]).toFixed(1)}`).join(""));
    };
  });
  const drawCurves = () => curves.forEach((draw) => draw());

  // ---------------------------------------------------------------- running
  let frame = null;
  function stop() {
    cancelAnimationFrame(frame);
    frame = null;
    state.running = false;
    find("[data-action=train]").textContent = "Train";
  }
  function some() {
    const start = performance.now();
    for (let k = 0; k < MOST && state.now.steps < STEPS; k++) {
      state.now.step();
      if (performance.now() - start > PATIENCE) break;
    }
    show();
    if (state.now.steps < STEPS) frame = requestAnimationFrame(some);
    else {
      stop();
      say();
    }
  }
  /** Screen readers hear where a training stands when it stops, not every step of it. */
  function say() {
    const { penalty, error } = state.seen;
    find("[role=status]").textContent = `After ${state.now.steps} steps the penalty is ${number(penalty.total)}${state.settings.rebuild ? ` and the squared error per point ${number(error)}` : ""}.`;
  }
  const actions = {
    train() {
      if (state.running) {
        stop();
        return say();
      }
      state.running = true;
      find("[data-action=train]").textContent = "Pause";
      frame = requestAnimationFrame(some);
    },
    step() {
      stop();
      state.now.step();
      show();
      say();
    },
    restart,
  };
  box.addEventListener("click", (event) => actions[event.target.dataset?.action]?.());
  box.addEventListener("change", restart);
  restart();
})();
