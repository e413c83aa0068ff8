// Encoders and decoders of recorded runs, computed in the reader's browser, beside the page in a worker where there is one.
// No dependency. Each network is a script of its own (made by `python -m wwae_lib export`), fetched when it is first needed:
// a page opened from disk may load scripts, and nothing else.
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});
  const folder = document.currentScript.src.replace(/[^/]*$/, "");

  /** All that computes. It stands by itself, so that its own text can be handed to a worker. */
  function machine() {
    // -------------------------------------------------------------- reading a network
    /** Half-precision numbers (IEEE 754 binary16) in base64: the lower bytes of all, then the higher. */
    function halves(base64) {
      const bytes = atob(base64);
      const numbers = new Float32Array(bytes.length / 2);
      for (let i = 0; i < numbers.length; i++) {
        const bits = bytes.charCodeAt(i) | (bytes.charCodeAt(numbers.length + i) << 8);
        const exponent = (bits >> 10) & 31;
        const fraction = bits & 1023;
        const size = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? NaN : (1 + fraction / 1024) * 2 ** (exponent - 15);
        numbers[i] = bits & 0x8000 ? -size : size;
      }
      return numbers;
    }

    /** Whole numbers from -127 to 127 in base64, each row of them times the scale of its layer's output. */
    function eighths(base64, layers, scales) {
      const bytes = atob(base64);
      const numbers = new Float32Array(bytes.length);
      let [at, row] = [0, 0];
      for (const { outputs, fan } of layers)
        for (let o = 0; o < outputs; o++, row++)
          for (let i = 0; i < fan; i++, at++) numbers[at] = ((bytes.charCodeAt(at) << 24) >> 24) * scales[row];
      return numbers;
    }

    /** Which taps of a kernel an output pixel reads, and from how far away: one list for each phase of its row and column. */
    function phases({ kind, kernel, stride, padding }) {
      if (kind === "convolution") return [Array.from({ length: kernel }, (_, tap) => [tap, tap - padding])];
      return Array.from({ length: stride }, (_, phase) =>
        Array.from({ length: kernel }, (_, tap) => [tap, (phase + padding - tap) / stride]).filter(([, shift]) => Number.isInteger(shift)));
    }

    /** A layer's kernels as rows [output][tap][input] for each phase, from torch's (to, from, tap) or, transposed, (from, to, tap). */
    function arrange(weight, layer) {
      const { kind, inputs, outputs, kernel } = layer;
      if (kind === "dense") return [{ rows: Float64Array.from(weight), taps: null }];
      const lists = phases(layer);
      return lists.flatMap((down) => lists.map((across) => {
        const taps = down.flatMap(([ky, dy]) => across.map(([kx, dx]) => [ky * kernel + kx, dy, dx]));
        const rows = new Float64Array(outputs * taps.length * inputs);
        let at = 0;
        for (let o = 0; o < outputs; o++)
          for (const [tap] of taps)
            for (let i = 0; i < inputs; i++)
              rows[at++] = weight[(kind === "transposed" ? i * outputs + o : o * inputs + i) * kernel * kernel + tap];
        return { rows, taps };
      }));
    }

    /** The layers of a record, with their weights: half precision, or eight bits and a scale for each output. */
    function read({ layers, weights, weights8, scales, biases }) {
      const dense = layers.filter((layer) => layer.inputs);
      for (const layer of dense) layer.fan = layer.inputs * (layer.kind === "dense" ? 1 : layer.kernel ** 2);
      const numbers = weights8 ? eighths(weights8, dense, halves(scales)) : halves(weights);
      const added = weights8 ? halves(biases) : numbers;
      let [used, usedOfAdded] = [0, 0];
      const made = layers.map((layer) => {
        if (!layer.inputs) return layer;
        const weight = numbers.subarray(used, (used += layer.fan * layer.outputs));
        if (!weights8) usedOfAdded = used;
        const bias = added.subarray(usedOfAdded, (usedOfAdded += layer.outputs));
        if (!weights8) used = usedOfAdded;
        return { ...layer, parts: arrange(weight, layer), bias: Float64Array.from(bias) };
      });
      if (used !== numbers.length) throw new Error(`${numbers.length} weights, and the layers hold ${used}`);
      return made;
    }

    // -------------------------------------------------------------- running it
    /** y[places[p] * outputs + o] = bias[o] + x[p] . rows[o] for vectors x[p] of a size: four outputs at a time. */
    function multiply(x, count, size, rows, bias, outputs, places, y, relu) {
      for (let o = 0; o < outputs; o += 4) {
        const wide = o + 4 <= outputs;
        for (let p = 0; p < count; p++) {
          const to = places[p] * outputs + o;
          let k = p * size;
          if (wide) {
            let [a, b, c, d] = [o * size, (o + 1) * size, (o + 2) * size, (o + 3) * size];
            let s0 = bias[o], s1 = bias[o + 1], s2 = bias[o + 2], s3 = bias[o + 3];
            for (const end = k + size; k < end; k++) {
              const v = x[k];
              s0 += v * rows[a++];
              s1 += v * rows[b++];
              s2 += v * rows[c++];
              s3 += v * rows[d++];
            }
            y[to] = relu && s0 < 0 ? 0 : s0;
            y[to + 1] = relu && s1 < 0 ? 0 : s1;
            y[to + 2] = relu && s2 < 0 ? 0 : s2;
            y[to + 3] = relu && s3 < 0 ? 0 : s3;
          } else
            for (let q = o; q < outputs; q++) {
              let sum = bias[q];
              for (let i = 0, w = q * size; i < size; i++, w++) sum += x[k + i] * rows[w];
              y[to + q - o] = relu && sum < 0 ? 0 : sum;
            }
        }
      }
    }

    /** A convolution of (pixel, channel), transposed or not: what each output pixel reads is laid side by side, then multiplied. */
    function convolve(x, side, layer) {
      const { kind, inputs, outputs, kernel, stride, padding, parts, bias, relu } = layer;
      const transposed = kind === "transposed";
      const size = transposed ? (side - 1) * stride - 2 * padding + kernel : Math.floor((side + 2 * padding - kernel) / stride) + 1;
      const y = new Float64Array(size * size * outputs);
      const step = transposed ? stride : 1; // output pixels of one phase lie so far apart
      parts.forEach(({ rows, taps }, phase) => {
        const [top, left] = transposed ? [Math.floor(phase / stride), phase % stride] : [0, 0];
        const places = [];
        const patches = new Float64Array(Math.ceil(size / step) ** 2 * taps.length * inputs);
        let at = 0;
        for (let row = top; row < size; row += step)
          for (let column = left; column < size; column += step) {
            places.push(row * size + column);
            const [fromRow, fromColumn] = transposed ? [(row - top) / stride, (column - left) / stride] : [row * stride, column * stride];
            for (const [, dy, dx] of taps) {
              const [r, c] = [fromRow + dy, fromColumn + dx];
              if (r >= 0 && r < side && c >= 0 && c < side) {
                const from = (r * side + c) * inputs;
                for (let i = 0; i < inputs; i++) patches[at + i] = x[from + i];
              }
              at += inputs;
            }
          }
        multiply(patches, places.length, taps.length * inputs, rows, bias, outputs, places, y, relu);
      });
      return [y, size];
    }

    /** (channel, pixel) to (pixel, channel), or back. */
    function turned(x, rows) {
      const columns = x.length / rows;
      const y = new Float64Array(x.length);
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) y[c * rows + r] = x[r * columns + c];
      return y;
    }

    /** Layers on numbers: a code, or an image of one channel. */
    function run(layers, numbers) {
      let x = Float64Array.from(numbers);
      let side = Math.sqrt(x.length); // of an image; a code has none, and its first layer is dense
      for (const layer of layers) {
        if (layer.kind === "dense") {
          const y = new Float64Array(layer.outputs);
          multiply(x, 1, layer.inputs, layer.parts[0].rows, layer.bias, layer.outputs, [0], y, layer.relu);
          x = y;
        } else if (layer.kind === "unflatten") [x, side] = [turned(x, layer.channels), layer.side];
        else if (layer.kind === "flatten") x = turned(x, side * side);
        else [x, side] = convolve(x, side, layer);
      }
      return x;
    }

    const decode = (model, code) => run(model.decoder, code).map((v) => 1 / (1 + Math.exp(-v)));

    /** The codes and pictures of an image, or, without one, the pictures of a code, for each of several models. */
    function see(models, { image, code }) {
      return models.map((model) => {
        const own = code ?? Array.from(run(model.encoder, image));
        return { code: own, picture: decode(model, own) };
      });
    }

    return { halves, read, run, decode, see };
  }

  const here = machine();
  const models = {}; // "mnist-wwae" -> codes, labels, planes of its record, and the layers of its decoder and encoder
  const records = {}; // "mnist-wwae" -> the records that came, for a worker
  explorer.models = models;
  explorer.halves = here.halves;

  /** What a network's script calls. */
  explorer.add = function (record) {
    const name = `${record.dataset}-${record.method}`;
    const model = (models[name] ||= {});
    (records[name] ||= []).push(record);
    if (record.part === "encoder") Object.assign(model, { encoder: here.read(record), examples: record.examples });
    else {
      const { layers, weights, ...rest } = record;
      const labels = Uint8Array.from(record.labels, Number);
      Object.assign(model, rest, { decoder: here.read({ layers, weights }), codes: here.halves(record.codes), labels });
    }
  };

  /** The pixels (pixel, channel) in [0, 1] that a run's decoder makes of a code, and the code that its encoder gives an image. */
  explorer.decode = (dataset, method, code) => here.decode(models[`${dataset}-${method}`], code);
  explorer.encode = (dataset, method, image) => here.run(models[`${dataset}-${method}`].encoder, image);

  /** Fetch the script of that name, once. */
  const fetched = {};
  explorer.fetch = (name) =>
    (fetched[name] ||= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${folder}${name}.js`;
      script.onload = resolve;
      script.onerror = () => {
        delete fetched[name];
        reject(new Error(`${script.src} could not be loaded`));
      };
      document.head.append(script);
    }));

  /** A function that sees (image or code) with several runs, beside the page; of calls that pile up the last is answered.
   *
   * `answer` is called with what was asked and what each model made of it. Without workers it computes here. */
  explorer.observer = function (names, answer) {
    const say = (asked, seen) => answer(asked, seen);
    let worker = null;
    let [busy, waiting] = [null, null];
    const next = (asked) => {
      busy = asked;
      waiting = null;
      if (worker) worker.postMessage({ asked });
      else say(asked, here.see(names.map((name) => models[name]), asked));
      if (!worker) busy = null;
    };
    try {
      const text = `const m = (${machine})(); let models = [];
        onmessage = ({data}) => {
          if (data.records) models = data.records.map((some) => Object.fromEntries(
            some.map((record) => [record.part === "encoder" ? "encoder" : "decoder", m.read(record)])));
          else postMessage(m.see(models, data.asked));
        };`;
      worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
      const needed = ({ part, layers, weights, weights8, scales, biases }) => ({ part, layers, weights, weights8, scales, biases });
      worker.postMessage({ records: names.map((name) => records[name].map(needed)) });
      worker.onmessage = ({ data }) => {
        const asked = busy;
        busy = null;
        if (waiting) next(waiting);
        say(asked, data);
      };
      worker.onerror = () => {
        worker = null;
        if (busy) next(waiting ?? busy);
      };
    } catch {
      worker = null;
    }
    return (asked) => (busy ? (waiting = asked) : next(asked));
  };

  // ---------------------------------------------------------------- what the explorers share
  /** Grey or coloured pixels (pixel, channel) in [0, 1] onto a canvas; grey ones are ink on paper. */
  explorer.paint = function (canvas, pixels, channels = 1) {
    const context = canvas.getContext("2d", { willReadFrequently: true }); // kept in memory, where it is written
    const image = context.createImageData(canvas.width, canvas.height);
    for (let p = 0; p < pixels.length / channels; p++) {
      for (let c = 0; c < 3; c++) {
        const level = Math.round(255 * pixels[p * channels + (channels === 3 ? c : 0)]);
        image.data[4 * p + c] = channels === 3 ? level : 255 - level;
      }
      image.data[4 * p + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  };

  /** The encoded test image whose code is nearest, and how far it is. */
  explorer.nearest = function ({ codes, latent, labels }, code) {
    let [best, least] = [0, Infinity];
    for (let i = 0; i < labels.length; i++) {
      let sum = 0;
      for (let k = 0, at = i * latent; k < latent; k++) sum += (codes[at + k] - code[k]) ** 2;
      if (sum < least) [best, least] = [i, sum];
    }
    return [best, Math.sqrt(least)];
  };
})();
