// The search's page looks through sections instead of pages (search.js).
if (/\/search\.html$/.test(location.pathname)) {
  const script = document.createElement("script");
  script.src = document.currentScript.src.replace("book.js", "search.js");
  document.head.append(script);
  document.addEventListener("DOMContentLoaded", () => (Search.performSearch = () => {})); // Sphinx's own knows whole pages
}

// What the theme and its extensions say to a screen reader contradicts what they show, or names no landmark.
document.addEventListener("DOMContentLoaded", () => {
  const each = (selector, change) => document.querySelectorAll(selector).forEach(change);
  each(".search-button-field, details.hide > summary", (e) => e.removeAttribute("aria-label")); // their text names them
  each(".has-children > details > summary", (e) => e.setAttribute("aria-label", "Pages of this chapter"));
  each(".citation-list > .citation", (e) => e.setAttribute("role", "listitem"));
  each(".bd-sidebar-primary", (e) => {
    e.setAttribute("role", "region");
    e.setAttribute("aria-label", "Chapters");
  });
});

// A number in a table stays with its uncertainty, where there is room.
document.addEventListener("DOMContentLoaded", () => {
  if (innerWidth <= 600) return;
  for (const cell of document.querySelectorAll("article td")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); )
      if (!text.parentElement.closest(".math"))
        text.data = text.data.replace(/ ?[\u00b1<] (?=\d)/g, (sign) => sign.replaceAll(" ", "\u00a0"));
  }
});

// A figure is enlarged on a click, in a dialog that Escape or another click closes.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "Figure, enlarged");
  dialog.innerHTML = '<button type="button" aria-label="Close">\u2715</button>';
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.querySelectorAll("img").forEach((image) => image.remove()));
  document.body.append(dialog);
  document.querySelectorAll("article img.only-light").forEach((light) => {
    const pair = [light, light.nextElementSibling].filter((image) => image?.matches("img"));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.title = "Enlarge";
    light.before(button);
    button.append(...pair);
    button.addEventListener("click", () => {
      for (const image of pair) {
        const copy = image.cloneNode();
        copy.removeAttribute("loading");
        dialog.append(copy);
      }
      dialog.showModal();
    });
  });
});

// What an equation, a theorem, a reference or a term says, where a link to it is pointed at (tools/page_index.py).
(function () {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const root = new URL("../", folder);
  let known = null;
  const load = () =>
    (known ||= new Promise((resolve) => {
      window.wwaeTips = resolve;
      const script = document.createElement("script");
      script.src = `${folder}tips.js`;
      script.onerror = () => resolve({});
      document.head.append(script);
    }));
  const tip = document.createElement("div");
  tip.className = "hover-tip";
  tip.role = "tooltip";
  tip.id = "hover-tip";
  tip.hidden = true;
  let owner = null;
  let waiting = null;

  function hide() {
    clearTimeout(waiting);
    owner?.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  }

  async function show(link) {
    const target = new URL(link.href);
    const name = decodeURIComponent(target.pathname.slice(root.pathname.length) + target.hash);
    const html = (await load())[name];
    if (!html || owner !== link) return;
    tip.innerHTML = html;
    tip.hidden = false;
    if (/\\[([]/.test(html) && window.MathJax?.typesetPromise) await MathJax.typesetPromise([tip]);
    if (owner !== link) return;
    link.setAttribute("aria-describedby", "hover-tip");
    const [at, size] = [link.getBoundingClientRect(), tip.getBoundingClientRect()];
    const below = at.bottom + size.height + 12 < innerHeight || at.top < size.height + 12;
    tip.style.top = `${scrollY + (below ? at.bottom + 6 : at.top - size.height - 6)}px`;
    tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - size.width - 8))}px`;
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(tip);
    const links = "article a.reference.internal[href*='#'], article a[href*='#equation-']";
    for (const [kind, delay] of [["pointerover", 220], ["focusin", 0]])
      document.addEventListener(kind, ({ target, pointerType }) => {
        const link = target.closest?.(links);
        if (!link || link === owner || pointerType === "touch") return;
        hide();
        owner = link;
        waiting = setTimeout(show, delay, link);
      });
    document.addEventListener("pointerout", ({ target, relatedTarget }) => {
      if (owner && target.closest?.(links) === owner && !owner.contains(relatedTarget) && !tip.contains(relatedTarget)) hide();
    });
    tip.addEventListener("pointerleave", hide);
    document.addEventListener("focusout", hide);
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  });
})();
