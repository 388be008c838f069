// Draws one panel as SVG at the width that it has, with the axes, labels, colours and dashes that the
// report names, and tells the values under pointer or keys.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function colour(place) { return place === null ? "var(--guide)" : `var(--c${place})`; }

// Of a line or of its sample in a legend; dashes are multiples of the line's width.
function stroke(look) {
  return {
    fill: "none", stroke: colour(look.colour), "stroke-width": look.width, opacity: look.opacity,
    "stroke-dasharray": look.dash.map((length) => length * look.width).join(" "), "stroke-linejoin": "round",
  };
}

// As the tables on a terminal: three decimals below ten, one above.
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const digits = Math.abs(value) < 10 ? 3 : 1;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function path(xs, ys, x, y) {
  return xs.map((value, k) => `${k ? "L" : "M"}${x(value).toFixed(1)} ${y(ys[k]).toFixed(1)}`).join("");
}

function drawLines(box, panel, small) {
  const width = Math.max(160, box.clientWidth);
  const height = small ? 176 : 270;
  const area = { left: 56, right: width - 8, top: 8, bottom: height - 36 };
  const steps = panel.x_limits;
  const [low, high] = panel.y_limits;
  const scale = panel.log ? Math.log : (value) => value;
  const x = (value) => steps[1] === steps[0]
    ? (area.left + area.right) / 2
    : area.left + 4 + ((value - steps[0]) / (steps[1] - steps[0])) * (area.right - area.left - 8);
  const y = (value) => area.bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (area.bottom - area.top);

  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": spoken(panel) });
  for (const [value, text] of panel.y_ticks) {
    root.append(svg("line", { class: "grid", x1: area.left, x2: area.right, y1: y(value), y2: y(value) }));
    root.append(svg("text", { class: "tick-y", x: area.left - 5, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  for (const [value, text] of panel.x_ticks) {
    root.append(svg("text", { class: "tick-x", x: x(value), y: area.bottom + 14, "text-anchor": "middle" }, text));
  }
  const middle = (area.top + area.bottom) / 2;
  root.append(svg("text", { x: (area.left + area.right) / 2, y: height - 4, "text-anchor": "middle" }, panel.labels[0]));
  root.append(svg("text", { x: 11, y: middle, transform: `rotate(-90 11 ${middle})`, "text-anchor": "middle" }, panel.labels[1]));
  if (panel.guides) {
    for (const [, value, look] of report.guides) root.append(svg("path", { d: `M${area.left} ${y(value)}H${area.right}`, ...stroke(look) }));
  }
  for (const each of panel.series) {
    if (each.low) {
      const shape = path(each.x, each.high, x, y) + path([...each.x].reverse(), [...each.low].reverse(), x, y).replace("M", "L") + "Z";
      root.append(svg("path", { d: shape, fill: colour(each.colour), opacity: report.band_opacity }));
    }
    root.append(svg("path", { d: path(each.x, each.y, x, y), ...stroke(each) }));
    if (each.x.length === 1) root.append(svg("circle", { cx: x(each.x[0]), cy: y(each.y[0]), r: 2 * each.width, fill: colour(each.colour) }));
  }
  if (panel.note) root.append(svg("text", { x: area.right - 2, y: (panel.guides ? y(0) : area.bottom) - 4, "text-anchor": "end" }, panel.note));
  const cursor = svg("line", { class: "cursor", y1: area.top, y2: area.bottom, visibility: "hidden" });
  root.append(cursor);
  const means = panel.series.filter((each) => each.weight === "mean");
  const places = [...new Set(means.flatMap((each) => each.x))].sort((a, b) => a - b);
  listen(root, places.length, (event) => {
    const at = ((event.clientX - root.getBoundingClientRect().left) / root.getBoundingClientRect().width) * width;
    return places.reduce((best, value, k) => (Math.abs(x(value) - at) < Math.abs(x(places[best]) - at) ? k : best), 0);
  }, (k) => {
    cursor.setAttribute("visibility", k === null ? "hidden" : "visible");
    if (k === null) return null;
    const value = places[k];
    cursor.setAttribute("x1", x(value));
    cursor.setAttribute("x2", x(value));
    const lines = means.filter((each) => each.x.includes(value)).map((each) => {
      const place = each.x.indexOf(value);
      const band = each.low ? ` (${number(each.low[place])} to ${number(each.high[place])})` : "";
      const count = each.tasks > 1 ? `, ${each.tasks} tasks` : "";
      return `${each.label}${count}: ${number(each.y[place])}${band}`;
    });
    return { text: [`${panel.x.split(" ")[0]} ${number(value)}`, ...lines].join("\n"), x: x(value) / width };
  });
  box.replaceChildren(root);
}

function drawBars(box, panel, bars) {
  const width = Math.max(200, box.clientWidth);
  const row = 22;
  const left = Math.min(0.42 * width, 8 + 6.3 * Math.max(...bars.map((each) => each.label.length)));
  const right = width - 46;
  const height = 16 + row * bars.length + 34;
  const [low, high] = panel.x_limits;
  const x = (value) => left + ((value - low) / (high - low)) * (right - left);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": spoken(panel) });
  const end = 16 + row * bars.length;
  for (const [value, text] of panel.x_ticks) {
    root.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: 14, y2: end }));
    root.append(svg("text", { class: "tick-x", x: x(value), y: end + 14, "text-anchor": "middle" }, text));
  }
  const letters = Math.floor(left / 6.3) - 1;
  bars.forEach((each, k) => {
    const top = 16 + k * row;
    // The end of a long name tells tasks apart: industrial-benchmark-50.
    const name = each.label.length > letters ? `…${each.label.slice(1 - letters)}` : each.label;
    const from = Math.min(x(0), x(each.value));
    const size = Math.max(1, Math.abs(x(each.value) - x(0)));
    root.append(svg("text", { class: "strong", x: left - 6, y: top + 14, "text-anchor": "end" }, name));
    root.append(svg("rect", { x: from, y: top + 3, width: size, height: row - 6, rx: 2, fill: colour(each.colour) }));
    if (each.low !== null) {
      const middle = top + row / 2;
      root.append(svg("path", { class: "whisker", d: `M${x(each.low)} ${middle}H${x(each.high)}M${x(each.low)} ${middle - 3}v6M${x(each.high)} ${middle - 3}v6` }));
    }
    // Inside where the bar is long enough for it, above the start of the bar's room elsewhere.
    const room = size > 8 * each.inside.length + 10;
    root.append(svg("text", { class: room ? "on-bar" : "strong", x: room ? from + 6 : Math.max(x(0), x(each.value)) + 5, y: top + 15 }, each.inside));
    root.append(svg("text", { class: "strong", x: width - 2, y: top + 15, "text-anchor": "end" }, each.text));
  });
  root.append(svg("path", { d: `M${x(1)} 12V${end}`, ...stroke(report.guides[0][2]) }));
  root.append(svg("text", { x: x(1), y: 9, "text-anchor": "middle" }, "demonstrator"));
  root.append(svg("text", { x: (left + right) / 2, y: height - 3, "text-anchor": "middle" }, panel.x));
  listen(root, bars.length, (event) => {
    const frame = root.getBoundingClientRect();
    const at = ((event.clientY - frame.top) / frame.height) * height;
    return Math.min(bars.length - 1, Math.max(0, Math.floor((at - 16) / row)));
  }, (k) => {
    if (k === null) return null;
    const each = bars[k];
    const band = each.low === null ? "" : ` (${number(each.low)} to ${number(each.high)})`;
    const shot = each.inside ? `\nat shot ${each.inside}` : "";
    return { text: `${each.label}\n${each.text}${band}${shot}`, x: 0.5, y: (16 + (k + 1) * row) / height };
  });
  box.replaceChildren(root);
}

function spoken(panel) {
  const parts = (panel.series || []).filter((each) => each.weight === "mean").map(
    (each) => `${each.label}: from ${number(each.y[0])} to ${number(each.y[each.y.length - 1])}`);
  return `${panel.title}. ${parts.join("; ") || panel.x}. Arrow keys tell single values.`;
}

// Shows the values of one place: the one under the pointer, or the next by arrow keys.
function listen(root, count, find, show) {
  const tip = document.getElementById("tip");
  let at = null;
  const tell = (k) => {
    at = k;
    const told = show(k);
    tip.hidden = !told;
    if (!told) return;
    tip.textContent = told.text;
    const frame = root.getBoundingClientRect();
    const left = frame.left + told.x * frame.width + 10;
    const top = frame.top + (told.y === undefined ? 0.1 : told.y) * frame.height;
    tip.style.left = `${Math.max(4, Math.min(left, window.innerWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${Math.max(4, Math.min(top, window.innerHeight - tip.offsetHeight - 6))}px`;
  };
  root.addEventListener("pointermove", (event) => tell(find(event)));
  root.addEventListener("pointerleave", () => tell(null));
  root.addEventListener("blur", () => tell(null));
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") tell(null);
    if (!step) return;
    event.preventDefault();
    tell(at === null ? 0 : Math.min(count - 1, Math.max(0, at + step)));
  });
}
