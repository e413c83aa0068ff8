// Search by section, with an excerpt, also from disk (tools/page_index.py writes sections.js).
"use strict";

(function () {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const simple = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
  const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  /** How well a section answers: every word must be in it, whole words and titles count for more. */
  function score(section, words) {
    let sum = 0;
    for (const word of words) {
      const start = new RegExp(`(?<![\\p{L}\\p{N}])${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`, "gu");
      const [title, text] = [section.simpleTitle.match(start)?.length ?? 0, section.simpleText.match(start)?.length ?? 0];
      const whole = section.simpleWhole.match(start)?.length ?? 0;
      if (!title && !text && !whole) return 0;
      sum += 12 * Math.min(title, 1) + 5 * Math.min(whole, 1) + 2 * Math.log1p(text) + (text ? 1 : 0);
    }
    const phrase = words.join(" ");
    if (words.length > 1) sum += section.simpleTitle.includes(phrase) ? 25 : section.simpleText.includes(phrase) ? 12 : 0;
    return sum;
  }

  /** Some words around the first place where most of the query stands, the query marked. */
  function excerpt(section, words) {
    const places = words.map((word) => section.simpleText.indexOf(word)).filter((at) => at >= 0);
    const phrase = section.simpleText.indexOf(words.join(" "));
    const at = phrase >= 0 ? phrase : (places.sort((a, b) => a - b)[0] ?? 0);
    const from = Math.max(0, section.text.lastIndexOf(" ", Math.max(0, at - 70)));
    let text = section.text.slice(from, from + 230);
    if (from + 230 < section.text.length) text = `${text.replace(/\s\S*$/, "")} …`;
    const marked = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
    return (from ? "… " : "") + escape(text.trim()).replace(marked, "<mark>$1</mark>");
  }

  function show(query, all) {
    const box = document.getElementById("search-results");
    const words = simple(query).split(/[^\p{L}\p{N}.]+/u).filter(Boolean);
    const found = all.map((section) => [words.length ? score(section, words) : 0, section]).filter(([s]) => s > 0).sort((a, b) => b[0] - a[0]);
    const list = found.slice(0, 40).map(([, section]) => {
      const title = section.anchor ? `${escape(section.title)} <small>${escape(section.whole)}</small>` : escape(section.whole);
      return `<li><a href="${section.page}${section.anchor ? `#${section.anchor}` : ""}">${title}</a><p class="context">${excerpt(section, words)}</p></li>`;
    });
    const many = found.length === 1 ? "One section" : `${found.length || "No"} sections`;
    const rest = found.length > 40 ? " The first 40 are shown." : "";
    box.innerHTML = `<h2 class="search-count">${many} for “${escape(query)}”.${rest}</h2><ul class="search">${list.join("")}</ul>`;
  }

  window.wwaeSections = (all) => {
    for (const section of all) {
      section.simpleTitle = simple(section.title);
      section.simpleWhole = section.anchor ? "" : simple(section.whole);
      section.simpleText = simple(section.text);
    }
    window.wwaeSearch = (query) => show(query, all);
    const query = new URLSearchParams(location.search).get("q");
    if (query) show(query, all);
  };
  const begin = () => {
    const script = document.createElement("script");
    script.src = `${folder}sections.js`;
    document.head.append(script);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
