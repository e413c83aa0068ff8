// What keeps an explorer from being read or touched: contrast below WCAG 2.2 AA, targets below 24 pixels.
() => {
    const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
    };
    const contrast = (a, b) => {
        const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
        return (x + 0.05) / (y + 0.05);
    };
    const faults = [];
    const need = (e, property, least) => {
        const style = getComputedStyle(e);
        const [under, share] = [ground(e), property === "stroke" ? Number(style.strokeOpacity) : 1];
        const colour = parse(style[property]).slice(0, 3).map((v, i) => share * v + (1 - share) * under[i]);
        const found = contrast(colour, under);
        if (found < least) faults.push(`${e.outerHTML.slice(0, 80)}: ${property} ${found.toFixed(2)}`);
    };
    const visible = (e) => e.getClientRects().length && !e.closest(".ex-hidden");
    for (const e of document.querySelectorAll(".explorer *")) {
        if (!visible(e)) continue;
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (own) need(e, e instanceof SVGElement ? "fill" : "color", 4.5);
        if (e.matches(".ex-knob")) need(e, "fill", 3);
        if (e.matches("ellipse, .ex-arrows, .ex-particles, .ex-dots, .ex-prior, .ex-line")) need(e, "stroke", 3);
        if (e.matches("button, select")) need(e, "borderTopColor", 3);
        if (e.matches("button, select, input, .ex-handle")) {
            const { width, height } = (e.querySelector(".ex-hit") || e).getBoundingClientRect();
            if (Math.min(width, height) < 24) faults.push(`${e.outerHTML.slice(0, 80)}: ${width} x ${height}`);
        }
    }
    return faults;
}
