// Formulas: when are they typeset, and how does one fit a column that is narrower than it?
"use strict";

// Formulas are typeset in small lots, from the top, so that a page of many can be read and scrolled meanwhile.
// Until then each holds a place of about its size (book.css), told by its signs and rows while the page is read,
// so that little moves.
function holdPlaces() {
  for (const formula of document.querySelectorAll(".math:not([style])")) {
    const tex = formula.textContent;
    const signs = tex
      .replace(/\\(?:left|right|[bB]igg?[lr]?|math\w+|operatorname|text|hat|bar|tilde|widehat)(?![a-zA-Z])/g, "")
      .replace(/\\[a-zA-Z]+/g, "x")
      .replace(/^\\\(|\\\)$|[\\{}^_&\s]/g, "");
    const relations = tex.match(/\\(?:in|[gl]e|sim|approx|succeq?|to|mid|cdot|odot|times)(?![a-zA-Z])|[=<>+]/g) ?? [];
    const tall = (row) => /\\(?:t?frac|sum|int|min|inf|sup|under\w+)(?![a-zA-Z])/.test(row);
    const rows = tex.split("\\\\").map((row) => (tall(row) ? 3.5 : 2.2));
    formula.style.setProperty("--width", `${0.3 + 0.57 * signs.length + 0.8 * relations.length}em`);
    formula.style.setProperty("--height", `${rows.reduce((sum, row) => sum + row, 1.7)}em`);
  }
}

// A formula wider than its column is set a little smaller, down to READABLE of its size. What is wider still is broken
// into lines: between statements and before relations, then before plus and minus too. What even so does not fit is set
// as small as LEAST of its size, and then scrolls, with a sign.
const [READABLE, LEAST] = [0.85, 0.68];
const written = new WeakMap(); // a displayed formula's TeX, as its author wrote it

/** TeX in tokens: commands and single signs; blanks are one blank. */
const tokens = (tex) => tex.replace(/\s+/g, " ").match(/\\(?:[a-zA-Z]+\*?|.)|[^\\]/g) ?? [];
const RELATION = /^(?:[=<>]|\\(?:leq?|geq?|neq?|sim|simeq|approx|equiv|propto|prec|succ|preceq|succeq|to|mapsto|iff|implies|(?:[lL]ong)?(?:[lL]eft)?[rR]ightarrow))$/;
const GOING_ON = /^(?:[+-]|\\(?:pm|times|cdot))$/; // what no statement begins with
const OPENING = /^(?:[{([]|\\(?:left|begin|lfloor|lceil|langle|\{))$/;
const CLOSING = /^(?:[})\]]|\\(?:right|end|rfloor|rceil|rangle|\}))$/;

/** Which tokens lie at the top level of a formula: in no script, bracket, fraction, environment or pair of bars. */
function topLevel(signs) {
  const open = [];
  return signs.map((sign, i) => {
    const before = signs[i - 1] ?? "";
    if (sign === "|" || sign === "\\|") {
      if (open.at(-1) === sign) open.pop();
      else open.push(sign);
      return false;
    }
    if (/^\\(?:left|right)$/.test(before)) return false; // these count themselves, so their brackets do not
    if (OPENING.test(sign)) {
      open.push(sign);
      return false;
    }
    if (CLOSING.test(sign)) {
      while (["|", "\\|"].includes(open.at(-1))) open.pop(); // a single bar, as in P(x | z)
      open.pop();
      return false;
    }
    return open.length === 0 && !/^[_^]$/.test(before);
  });
}

const bare = (tex) => tex.replace(/\\[,;: ]|\\q?quad(?![a-zA-Z])|\{\}|\s/g, "");

/** A formula's statements, each a list: what is before its first relation, then a piece from each relation on.
 * With `sums`, plus and minus begin pieces as well. */
function statements(tex, sums) {
  const whole = tex.trim().match(/^\\begin\{(split|aligned)\}([^]*)\\end\{\1\}$/);
  if (whole) return statements(whole[2], sums);
  const signs = tokens(tex);
  const top = topLevel(signs);
  const found = [[""]];
  let fresh = false; // after the author's own new line
  signs.forEach((sign, i) => {
    const add = () => (found.at(-1)[found.at(-1).length - 1] += sign);
    const said = bare(found.at(-1).join(""));
    if (top[i] && sign === "&") return;
    if (top[i] && sign === "\\\\") {
      fresh = true;
      return;
    }
    if (fresh) {
      if (!bare(sign)) return;
      fresh = false;
      if (top[i] && (RELATION.test(sign) || GOING_ON.test(sign))) return found.at(-1).push(sign);
      if (said) found.push([""]);
      return add();
    }
    if (!top[i]) return add();
    if (sign === "\\qquad" || (sums && sign === "\\quad")) {
      // "or", "so" and the like go on with what they introduce
      if (found.at(-1).length > 1 || (said && !/^\\text\{/.test(said))) return found.push([""]);
      found.at(-1)[0] += said ? " \\quad " : "";
      return;
    }
    const last = tokens(bare(found.at(-1).at(-1))).at(-1);
    if (RELATION.test(sign) || (sums && /^[+-]$/.test(sign) && last && !RELATION.test(last) && last !== ",")) found.at(-1).push(sign);
    else add();
  });
  return found.filter((pieces) => bare(pieces.join("")));
}

/** TeX in more lines, aligned at the relations. */
function atRelations(tex) {
  const lines = statements(tex, false).flatMap(([first, ...others]) => {
    if (!others.length) return [`&${first}`];
    if (!bare(first)) return others.map((other) => `&${other}`);
    return [`${first}&${others[0]}`, ...others.slice(1).map((other) => `&${other}`)];
  });
  return inLines(lines);
}

const inLines = (lines) => `\\begin{aligned}${lines.join("\\\\ ")}\\end{aligned}`;
/** Every piece a line of its own; those that go on with a statement are indented. */
const asLines = (all) => all.flatMap((pieces) => pieces.filter(bare).map((piece, k) => `&${k ? "\\quad " : ""}${piece}`));

/** Pieces of statements put together again, as many to a line as there is room for, by the width of each. */
function packed(all, widths, room) {
  let k = 0;
  return all.map((pieces) => {
    let used = 0;
    return pieces.filter(bare).reduce((lines, piece) => {
      const width = widths[k++];
      used = lines.length && used + width <= room ? (lines.push(lines.pop() + piece), used + width) : (lines.push(piece), width);
      return lines;
    }, []);
  });
}

/** Set a displayed formula's TeX anew. */
async function typesetAs(formula, tex) {
  MathJax.typesetClear([formula]);
  formula.querySelector("mjx-container").replaceWith(`\\[${tex}\\]`);
  await MathJax.typesetPromise([formula]);
}

/** Set it smaller, if it must be, but no smaller than `least`; whether it fits then. */
function shrunk(formula, least) {
  const drawn = formula.querySelector("mjx-container");
  const display = formula.matches("div");
  drawn.style.fontSize = "";
  drawn.removeAttribute("tabindex");
  const room = display ? drawn.clientWidth : (formula.closest("p, li, td, dd, figcaption, div") ?? formula).clientWidth;
  const width = () => (display ? drawn.scrollWidth : drawn.getBoundingClientRect().width);
  if (!room || width() <= room + 1) return true;
  const size = parseFloat(getComputedStyle(drawn).fontSize);
  drawn.style.fontSize = `${(size * Math.max(least, (0.985 * room) / width())).toFixed(2)}px`;
  return width() <= room + 1;
}

/** Set a formula that is too wide in more lines; whether it fits then. */
async function inMoreLines(formula, tex) {
  formula.classList.add("broken");
  await typesetAs(formula, atRelations(tex));
  if (shrunk(formula, READABLE)) return true;
  const all = statements(tex, true);
  await typesetAs(formula, inLines(asLines(all)));
  const drawn = formula.querySelector("mjx-container");
  const rows = [...drawn.querySelector("mjx-itable").children];
  const range = document.createRange();
  const widths = rows.map((row) => (range.selectNodeContents(row.lastElementChild), range.getBoundingClientRect().width));
  await typesetAs(formula, inLines(asLines(packed(all, widths, drawn.clientWidth))));
  return shrunk(formula, LEAST);
}

async function fitFormula(formula) {
  if (!formula.querySelector("mjx-container")) return;
  formula.classList.remove("scrolls");
  const tex = written.get(formula);
  if (formula.classList.contains("broken")) {
    formula.classList.remove("broken");
    await typesetAs(formula, tex);
  }
  const fits = shrunk(formula, tex ? READABLE : LEAST) || (tex && (await inMoreLines(formula, tex)));
  formula.classList.toggle("scrolls", !fits);
  if (!fits) (formula.matches("div") ? formula.querySelector("mjx-container") : formula).tabIndex = 0; // a keyboard scrolls it too
}

let lastWidth = innerWidth;
let fitting = Promise.resolve();
addEventListener("resize", () => {
  if (innerWidth === lastWidth) return;
  lastWidth = innerWidth;
  for (const formula of document.querySelectorAll(".math:has(mjx-container)")) fitting = fitting.then(() => fitFormula(formula));
});
document.documentElement.classList.add("typesetting");
const reading = new MutationObserver(holdPlaces);
reading.observe(document, {childList: true, subtree: true});
document.addEventListener("DOMContentLoaded", () => reading.disconnect());
window.MathJax = {
  ...window.MathJax,
  startup: {
    async pageReady() {
      const formulas = [...document.querySelectorAll(".math")];
      for (const formula of formulas.filter((one) => one.matches("div"))) {
        const tex = formula.textContent.match(/\\\[([^]*)\\\]/);
        if (tex) written.set(formula, tex[1]);
      }
      while (formulas.length) {
        const some = formulas.splice(0, 20);
        await MathJax.typesetPromise(some);
        for (const formula of some) await fitFormula(formula);
        await new Promise((resume) => setTimeout(resume));
      }
      document.documentElement.classList.remove("typesetting");
    },
  },
};
