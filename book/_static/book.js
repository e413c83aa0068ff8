// A page opened from disk may not fetch others, so the search shows titles without excerpts there.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Formulas are typeset in small lots, from the top, so that a page of many can be read and scrolled meanwhile.
// Until then each holds a place of about its size (book.css), so that little moves.
document.documentElement.classList.add("typesetting");
window.MathJax = {
  ...window.MathJax,
  startup: {
    async pageReady() {
      const formulas = [...document.querySelectorAll(".math")];
      while (formulas.length) {
        await MathJax.typesetPromise(formulas.splice(0, 20));
        await new Promise((resume) => setTimeout(resume));
      }
      document.documentElement.classList.remove("typesetting");
      return MathJax.startup.defaultPageReady(); // whatever stands elsewhere
    },
  },
};

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
