// Faces between two photographs: walks along the rows of the sheets that the page holds as a still figure.
// No dependency, and nothing is decoded here: the sheets were cut from recorded runs (python -m wwae_lib export).
"use strict";

(function () {
  const explorer = (window.wwaeExplorer = window.wwaeExplorer || {});
  const box = document.getElementById("faces-explorer");
  if (!box) return;

  const { side, gap, steps, rows } = Object.fromEntries(Object.entries(box.dataset).map(([name, text]) => [name, Number(text)]));
  const width = (steps + 2) * side + 2 * gap; // of a sheet: photograph, gap, what is decoded, gap, photograph
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const state = (explorer.faces = { row: 0, step: Math.floor(steps / 2) });

  const sheets = [...box.querySelectorAll(".ex-column")].map((column) => ({
    name: column.querySelector(".ex-title").textContent,
    frame: column.querySelector(".ex-sheet"),
    image: column.querySelector("img"),
  }));

  function html(markup) {
    const template = document.createElement("template");
    template.innerHTML = markup.trim();
    return template.content.firstChild;
  }

  // ---------------------------------------------------------------- building
  const stage = html('<div class="ex-stage"></div>');
  function picture(title, sheet, left) {
    const figure = html(`<div class="ex-face"><canvas role="img" width="${side}" height="${side}"></canvas><p class="ex-title">${title}</p></div>`);
    stage.append(figure);
    return { canvas: figure.firstChild, title, sheet, left };
  }
  const decoded = () => side + gap + state.step * side;
  const pictures = [
    picture("A", sheets[0], () => 0),
    ...sheets.map((sheet) => picture(sheet.name, sheet, decoded)),
    picture("B", sheets[0], () => width - side),
  ];
  const controls = html(`
    <div>
      <div class="ex-row">
        <label for="ex-faces-t">From A to B, <i>t</i> = <output for="ex-faces-t"></output></label>
        <input id="ex-faces-t" type="range" min="0" max="${steps - 1}" step="1">
      </div>
      <div class="ex-row ex-pairs" role="group" aria-label="Pair of photographs">
        ${Array.from({ length: rows }, (_, k) => `<button type="button">Pair ${k + 1}</button>`).join("")}
      </div>
      <p class="ex-help">Move the slider, or drag along a row of the sheets. By keyboard: Tab to the slider, then arrow keys.</p>
    </div>`);
  box.prepend(stage, controls);
  const slider = controls.querySelector("input");
  const buttons = [...controls.querySelectorAll("button")];
  for (const sheet of sheets) {
    sheet.mark = html('<div class="ex-mark"></div>');
    sheet.frame.append(sheet.mark);
  }

  // ---------------------------------------------------------------- drawing
  function draw() {
    const t = (state.step / (steps - 1)).toFixed(2);
    for (const { canvas, title, sheet, left } of pictures) {
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, side, side);
      if (sheet.image.complete && sheet.image.naturalWidth) context.drawImage(sheet.image, left(), state.row * side, side, side, 0, 0, side, side);
      canvas.setAttribute("aria-label", left === decoded ? `Face decoded by the ${title} at t = ${t}` : `Test photograph ${title} of pair ${state.row + 1}`);
    }
    for (const { mark } of sheets)
      Object.assign(mark.style, { left: `${(100 * decoded()) / width}%`, top: `${(100 * state.row) / rows}%`, width: `${(100 * side) / width}%`, height: `${100 / rows}%` });
    slider.value = state.step;
    slider.setAttribute("aria-valuetext", `t = ${t}, pair ${state.row + 1}`);
    controls.querySelector("output").textContent = t;
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === state.row)));
  }

  function moveTo(row, step) {
    Object.assign(state, { row: clamp(row, 0, rows - 1), step: clamp(step, 0, steps - 1) });
    draw();
  }

  // ---------------------------------------------------------------- moving
  slider.addEventListener("input", () => moveTo(state.row, Number(slider.value)));
  buttons.forEach((button, k) => button.addEventListener("click", () => moveTo(k, state.step)));
  for (const { frame, image } of sheets) {
    const at = (event) => {
      const place = frame.getBoundingClientRect();
      const [x, y] = [(event.clientX - place.left) / place.width, (event.clientY - place.top) / place.height];
      return [Math.floor(y * rows), Math.floor((x * width - side - gap) / side)];
    };
    image.draggable = false;
    image.addEventListener("load", draw);
    frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [row, step] = at(event);
      const touch = event.pointerType === "touch";
      const walk = (e) => {
        // A finger that moves up or down scrolls the page (touch-action in the style sheet).
        if (!touch || Math.abs(e.clientX - event.clientX) > Math.abs(e.clientY - event.clientY)) moveTo(row, at(e)[1]);
      };
      if (!touch) moveTo(row, step);
      frame.setPointerCapture(event.pointerId);
      frame.addEventListener("pointermove", walk);
      frame.addEventListener("lostpointercapture", () => frame.removeEventListener("pointermove", walk), { once: true });
    });
    frame.addEventListener("click", (event) => {
      if (event.pointerType === "touch") moveTo(...at(event));
    });
  }
  draw();
})();
